"""Requests to one version on their way: those that wait together go in one call.

A call through Serve's handle costs some milliseconds of two processes, whatever it carries. So as long as
few calls are under way each request is one; at more of them, those that come within some milliseconds
share the next.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from genloom_platform.serve.errors import SERVER, Refusal

LINGER_S = 0.005
"""How long a request waits for others at most."""
CALLS_PER_REPLICA = 2
"""Calls under way for each replica below which nothing waits: one is computed, one comes next."""
MAX_PROMPTS = 64
"""Prompts of a call; a request of more is one by itself."""
ATTEMPTS = 3
"""How often a request is sent where the replica that has it ends."""


class Interrupted(Exception):
    """The replica that had a call has ended."""


Call = Callable[[list[Sequence[Any]]], Awaitable[list[Any]]]
"""Answers several requests, each by its prompts: in the place of each its result, or its exception.

Raises:
    Interrupted: All of them may be sent again.
"""


class _Waiting:
    def __init__(self, prompts: Sequence[Any], answer: asyncio.Future[Any]) -> None:
        self.prompts, self.answer, self.attempts = prompts, answer, 0


class Pump:
    """The requests to one version.

    Args:
        name: The version, for messages.
        call: How several are answered.
        replicas: How many replicas it has now.
        alone: Whether each request is a call by itself: where it ends when it is done, and not with a batch.
    """

    def __init__(
        self, name: str, call: Call, replicas: Callable[[], int], *, alone: bool = False
    ) -> None:
        self._alone = alone
        self._name, self._call, self._replicas = name, call, replicas
        self._queue: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def ask(self, prompts: Sequence[Any]) -> Any:
        """One request's result.

        Raises:
            Refusal: It ended every replica that had it.
            Exception: What the version gave in place of a result.
        """
        waiting = _Waiting(prompts, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._push()
        return await waiting.answer

    def _push(self, now: bool = False) -> None:
        """Send what may go."""
        width = CALLS_PER_REPLICA * max(1, self._replicas())
        while self._queue and (now or self._alone or len(self._calls) < width):
            if batch := self._next():
                task = asyncio.create_task(self._send(batch))
                self._calls.add(task)
                task.add_done_callback(self._ended)
        if self._queue and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LINGER_S, self._late)

    def _late(self) -> None:
        self._timer = None
        self._push(now=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._push()

    def _next(self) -> list[_Waiting]:
        """The requests of the next call; those whose callers have gone are left out."""
        batch: list[_Waiting] = []
        prompts = 0
        while self._queue:
            first = self._queue[0]
            full = prompts + len(first.prompts) > MAX_PROMPTS
            if batch and (self._alone or full or first.attempts or batch[0].attempts):
                break
            self._queue.popleft()
            if not first.answer.done():
                batch.append(first)
                prompts += len(first.prompts)
        return batch

    async def _send(self, batch: list[_Waiting]) -> None:
        call = asyncio.ensure_future(self._call([waiting.prompts for waiting in batch]))
        left = len(batch)

        def gone(answer: asyncio.Future[Any]) -> None:
            nonlocal left
            left -= answer.cancelled()
            if not left:
                call.cancel()

        for waiting in batch:
            waiting.answer.add_done_callback(gone)
        try:
            results = await call
        except Interrupted:
            self._again(batch)
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.answer.cancel()
        except Exception as error:
            for waiting in batch:
                _give(waiting, error)
        else:
            for waiting, result in zip(batch, results, strict=True):
                _give(waiting, result)

    def _again(self, batch: list[_Waiting]) -> None:
        """Queue requests anew, each to go alone: one of them may be what ended the replica."""
        for waiting in reversed(batch):
            waiting.attempts += 1
            if waiting.attempts < ATTEMPTS:
                self._queue.appendleft(waiting)
                continue
            message = f"{self._name} stopped meanwhile and is started again; ask again in some seconds"
            headers = {"Retry-After": "5"}
            _give(waiting, Refusal(503, "model_stopped", message, kind=SERVER, headers=headers))


def _give(waiting: _Waiting, result: Any) -> None:
    if waiting.answer.done():
        return
    if isinstance(result, Exception):
        waiting.answer.set_exception(result)
    else:
        waiting.answer.set_result(result)
