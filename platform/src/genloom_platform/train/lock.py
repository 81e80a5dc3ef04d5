"""The lock on a run, a sweep or an endpoint's job: one process at a time writes it.

It is held by being renewed, and lapses by itself.
"""

import os
import secrets
import socket
import time
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

from pydantic import ValidationError

from genloom.data import Facts
from genloom.errors import RequestError, StoreError
from genloom_platform.store import Store
from genloom_platform.train.background import repeating

RENEW_S = 10.0
LAPSE_S = 60.0
"""A lock that was not renewed for so long is free: its holder is gone."""
SETTLE_S = 0.5
"""Two that take a free lock at once both read, after this, who wrote last."""


Kind = Literal["run", "sweep", "job"]


class Holder(Facts):
    """Who holds a lock."""

    token: str
    host: str
    process: int
    at: float
    """When it was renewed, in seconds since 1970."""


class Lock:
    """The lock of a run, a sweep or a job; a context that holds it.

    Raises:
        RequestError: On entering, another process holds it.
    """

    def __init__(self, store: Store, name: str, kind: Kind = "run") -> None:
        self._store, self._name = store, name
        self._kind: Kind = kind
        self._path = _path(name, kind)
        self._token = secrets.token_hex(8)
        self.lost = False
        """Whether another process has taken it, as after this one was stopped for long."""

    def __enter__(self) -> Self:
        other = holder(self._store, self._name, self._kind)
        if other:
            end = f"genloom runs stop {self._name}" if self._kind == "run" else "Ctrl-C, there"
            raise RequestError(
                f"the {self._kind} {self._name} is being written by process {other.process} on {other.host}; "
                f"wait for it, or end it: {end}"
            )
        self._write()
        time.sleep(SETTLE_S)
        found = _read(self._store, self._path)
        if found is None or found.token != self._token:
            raise RequestError(
                f"another process has begun to write the {self._kind} {self._name}; let it"
            )
        self._renewing = repeating(self._renew, RENEW_S)
        self._renewing.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renewing.__exit__(kind, error, trace)
        if not self.lost:
            self._store.remove(self._path)

    def _renew(self) -> None:
        with suppress(StoreError):  # the store is away for all that would write it; it is tried again
            found = _read(self._store, self._path)
            self.lost = self.lost or (found is not None and found.token != self._token)
            if not self.lost:
                self._write()

    def _write(self) -> None:
        me = Holder(token=self._token, host=socket.gethostname(), process=os.getpid(), at=time.time())
        self._store.write(self._path, me.model_dump_json().encode())


def holder(store: Store, name: str, kind: Kind = "run") -> Holder | None:
    """Who writes a run or a sweep now; None where nobody does."""
    found = _read(store, _path(name, kind))
    return found if found and holds(found) else None


def holds(holder: Holder) -> bool:
    """Whether what a holder last renewed is still held."""
    return time.time() - holder.at <= LAPSE_S and not _is_gone(holder)


def _path(name: str, kind: Kind) -> str:
    return f"{kind}s/{name}/lock.json"


def _is_gone(holder: Holder) -> bool:
    """Whether the holder was a process of this machine, and has ended."""
    if holder.host != socket.gethostname():
        return False
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _read(store: Store, path: str) -> Holder | None:
    try:
        return Holder.model_validate_json(store.read(path))
    except (FileNotFoundError, ValidationError):
        return None
