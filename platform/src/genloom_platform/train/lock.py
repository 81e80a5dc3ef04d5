"""The lock on a run: one process at a time writes it. It is held by being renewed, and lapses by itself."""

import os
import secrets
import socket
import threading
import time
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from genloom.data import Facts
from genloom.errors import RequestError, StoreError
from genloom_platform.store import Store

RENEW_S = 10.0
LAPSE_S = 60.0
"""A lock that was not renewed for so long is free: its holder is gone."""
SETTLE_S = 0.5
"""Two that take a free lock at once both read, after this, who wrote last."""


class Holder(Facts):
    """Who holds a lock."""

    token: str
    host: str
    process: int
    at: float
    """When it was renewed, in seconds since 1970."""


class Lock:
    """A run's lock; a context that holds it.

    Raises:
        RequestError: On entering, another process holds it.
    """

    def __init__(self, store: Store, run: str) -> None:
        self._store, self._run = store, run
        self._path = f"runs/{run}/lock.json"
        self._token = secrets.token_hex(8)
        self._ended = threading.Event()
        self.lost = False
        """Whether another process has taken it, as after this one was stopped for long."""

    def __enter__(self) -> Self:
        other = holder(self._store, self._run)
        if other:
            raise RequestError(
                f"the run {self._run} is being written by process {other.process} on {other.host}; wait for "
                f"it, or end it: genloom runs stop {self._run}"
            )
        self._write()
        time.sleep(SETTLE_S)
        found = _read(self._store, self._path)
        if found is None or found.token != self._token:
            raise RequestError(f"another process has begun to write the run {self._run}; let it")
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if not self.lost:
            self._store.remove(self._path)

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                found = _read(self._store, self._path)
                if found and found.token != self._token:
                    self.lost = True
                    return
                self._write()
            except StoreError:
                continue  # the store is away for all of them; it is tried again

    def _write(self) -> None:
        me = Holder(token=self._token, host=socket.gethostname(), process=os.getpid(), at=time.time())
        self._store.write(self._path, me.model_dump_json().encode())


def holder(store: Store, run: str) -> Holder | None:
    """Who writes a run now; None where nobody does."""
    found = _read(store, f"runs/{run}/lock.json")
    if found is None or time.time() - found.at > LAPSE_S or _is_gone(found):
        return None
    return found


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
