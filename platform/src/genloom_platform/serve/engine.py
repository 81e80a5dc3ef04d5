"""Continuous batching: a batch that runs on while prompts join and leave it, in a thread of its own.

Yu et al., Orca, 2022, section 3.1. It is for generators with a `RunningBatch`; others' prompts share the
batches of `replica.py`, which begin and end together.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from genloom import Piece, Prompt, RunningBatch, Sample


class _Taken:
    """The pieces that an engine's thread has made, and a reader in an event loop has not taken yet.

    The reader is woken only where it waits: a wake for each piece would cost more than the piece.
    """

    def __init__(self) -> None:
        self._pieces = deque[Piece | Exception]()
        self._loop, self._come = asyncio.get_running_loop(), asyncio.Event()
        self._asleep = False

    def tell(self, piece: Piece | Exception) -> None:
        """A piece is made; called in the engine's thread."""
        self._pieces.append(piece)
        if self._asleep:
            self._asleep = False
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._come.set)

    async def take(self) -> tuple[list[Sample], bool]:
        """All pieces that have come, one at least, and whether the last one is among them.

        Raises:
            Exception: It came in the place of a piece.
        """
        self._come.clear()
        self._asleep = True  # before the look: a piece that comes in between wakes then
        if not self._pieces:
            await self._come.wait()
        self._asleep = False
        samples, last = list[Sample](), False
        while self._pieces:
            piece = self._pieces.popleft()
            if isinstance(piece, Exception):
                raise piece
            samples.append(piece.sample)
            last = piece.last
        return samples, last


class _Whole:
    """A sample of which all pieces are awaited, and nobody reads before."""

    def __init__(self) -> None:
        self._pieces = list[Sample]()
        self._loop = asyncio.get_running_loop()
        self.made: asyncio.Future[list[Sample]] = self._loop.create_future()

    def tell(self, piece: Piece | Exception) -> None:
        """As `_Taken.tell`."""
        if isinstance(piece, Piece):
            self._pieces.append(piece.sample)
            if not piece.last:
                return
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end, piece)

    def _end(self, piece: Piece | Exception) -> None:
        if self.made.done():
            return
        if isinstance(piece, Exception):
            self.made.set_exception(piece)
        else:
            self.made.set_result(self._pieces)


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

    async def write(
        self, prompt: Prompt, every_s: Callable[[], float] = lambda: 0.0
    ) -> AsyncGenerator[list[Sample]]:
        """The pieces of a prompt's sample: all that have come since the last ones were taken.

        Closing it gives the sample up, and frees its place.

        Args:
            prompt: What to make.
            every_s: Seconds between two yields at least, asked before each; what comes meanwhile comes
                together.

        Raises:
            Exception: As the generator raised it.
        """
        taken = _Taken()
        with self._making(prompt, taken.tell):
            last = False
            while not last:
                pieces, last = await taken.take()
                yield pieces
                if not last and (pause_s := every_s()):
                    await asyncio.sleep(pause_s)

    async def make(self, prompt: Prompt) -> list[Sample]:
        """All pieces of a prompt's sample; cancelled, it gives the sample up.

        Raises:
            Exception: As the generator raised it.
        """
        whole = _Whole()
        with self._making(prompt, whole.tell):
            return await whole.made

    @contextmanager
    def _making(self, prompt: Prompt, tell: Callable[[Piece | Exception], None]) -> Generator[None]:
        writing = _Writing(prompt, tell)
        with self._change:
            self._waiting.append(writing)
            self._change.notify()
        try:
            yield
        finally:
            writing.given_up.set()

    def waiting(self) -> int:
        """How many prompts wait for a place."""
        return len(self._waiting)

    def close(self) -> None:
        """End the thread; prompts that wait are not answered any more."""
        with self._change:
            self._closed = True
            self._change.notify()

    def _run(self) -> None:
        import torch  # here: the gateway and the keeper know this module too, and need no torch

        with torch.inference_mode():
            self._make_all()

    def _make_all(self) -> None:
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
