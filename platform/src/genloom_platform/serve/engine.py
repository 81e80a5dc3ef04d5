"""Continuous batching: a batch that runs on while prompts join and leave it, in a thread of its own.

Yu et al., Orca, 2022, section 3.1. It is for generators with a `RunningBatch`; others' prompts share the
batches of `replica.py`, which begin and end together.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from genloom import Piece, Prompt, RunningBatch, Sample


@dataclass(eq=False)
class _Writing:
    """A prompt whose sample is being made, and the way to whoever waits for it."""

    prompt: Prompt
    tell: Callable[[Piece | Exception], None]
    given_up: threading.Event = field(default_factory=threading.Event)


class Engine:
    """Makes the samples of all prompts that have come, in steps that they share."""

    def __init__(self, begin: Callable[[], RunningBatch]) -> None:
        """An engine that waits for prompts.

        Args:
            begin: Makes an empty batch; called in the engine's thread, and again after a step has failed.
        """
        self._begin = begin
        self._change = threading.Condition()
        self._waiting: deque[_Writing] = deque()
        self._closed = False
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    async def write(self, prompt: Prompt) -> AsyncGenerator[list[Sample]]:
        """The pieces of a prompt's sample: all that have come since the last ones were taken.

        Closing it gives the sample up, and frees its place.

        Raises:
            Exception: As the generator raised it.
        """
        loop = asyncio.get_running_loop()
        come: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        writing = _Writing(prompt, lambda piece: _tell(loop, come, piece))
        with self._change:
            self._waiting.append(writing)
            self._change.notify()
        try:
            last = False
            while not last:
                news = [await come.get()]
                while not come.empty():
                    news.append(come.get_nowait())
                pieces = list[Sample]()
                for each in news:
                    if isinstance(each, Exception):
                        raise each
                    pieces.append(each.sample)
                    last = each.last
                yield pieces
        finally:
            writing.given_up.set()

    def close(self) -> None:
        """End the thread; prompts that wait are not answered any more."""
        with self._change:
            self._closed = True
            self._change.notify()

    @torch.inference_mode()
    def _run(self) -> None:
        batch, places = self._begin(), dict[int, _Writing]()
        while self._wait(idle=not places):
            try:
                self._leave(batch, places)
                self._join(batch, places)
                for place, piece in batch.step().items() if places else ():
                    places[place].tell(piece)
                    if piece.last:
                        del places[place]
            except Exception as error:
                for writing in places.values():
                    writing.tell(error)
                batch, places = self._begin(), {}

    def _wait(self, *, idle: bool) -> bool:
        """Wait for prompts where there are none; whether to go on."""
        with self._change:
            while idle and not self._waiting and not self._closed:
                self._change.wait()
            return not self._closed

    def _leave(self, batch: RunningBatch, places: dict[int, _Writing]) -> None:
        """Give up what nobody waits for."""
        for place in [place for place, writing in places.items() if writing.given_up.is_set()]:
            del places[place]
            batch.leave(place)

    def _join(self, batch: RunningBatch, places: dict[int, _Writing]) -> None:
        """Take prompts in, first come, first served, as long as there is a place."""
        free = [place for place in range(batch.places) if place not in places]
        while free and self._waiting:
            writing = self._waiting.popleft()
            if writing.given_up.is_set():
                continue
            try:
                batch.join(free[0], writing.prompt)
            except Exception as error:  # it fails no other's
                writing.tell(error)
                continue
            places[free.pop(0)] = writing


def _tell(loop: asyncio.AbstractEventLoop, come: "asyncio.Queue[Any]", piece: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(come.put_nowait, piece)
