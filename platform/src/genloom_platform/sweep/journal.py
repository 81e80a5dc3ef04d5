"""The journal: what a sweep writes down, in order, beside the scheduling that must not wait for it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self


class Journal:
    """Does one thing after the other in a thread; a context that waits for the last of them."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "journal")
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def write(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Do something after all that was asked before."""
        self._pool.submit(self._do, action, arguments)

    def _do(self, action: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if self._failure:
            return  # what follows may rest on what failed
        try:
            action(*arguments)
        except BaseException as error:  # raised by the next check, on the sweep's own thread
            self._failure = error

    @property
    def failure(self) -> BaseException | None:
        """What went wrong, if anything did."""
        return self._failure

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        if self._failure and error is None:
            raise self._failure
