"""A worker's log: all that its process prints, engines included, in the store while it runs."""

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from genloom.errors import RequestError, StoreError
from genloom_platform.store import Store
from genloom_platform.train import lock
from genloom_platform.train.background import repeating

FOLLOW_S = 1.0
UPLOAD_S = 20.0
"""How often a log is copied to a store that is not on this disk."""


def folder(run: str) -> str:
    """Where a run's logs are."""
    return f"runs/{run}/logs"


@contextmanager
def logged(store: Store, run: str, rank: int, where: str) -> Generator[None]:
    """Send what this process prints to the run's log, which begins with where it runs."""
    relative = f"{folder(run)}/rank-{rank}.log"
    with tempfile.TemporaryDirectory(prefix="genloom-log-") as scratch:
        local = Path(scratch) / "log" if store.folder is None else store.folder / relative
        local.parent.mkdir(parents=True, exist_ok=True)
        if store.folder is None and store.exists(relative):
            store.download(relative, local)  # an earlier attempt's, which this one goes on with
        with _redirected(local), _uploaded(store, local, relative):
            print(f"rank {rank} on {where}, process {os.getpid()}", flush=True)
            try:
                yield
            except BaseException:
                traceback.print_exc()
                raise


@contextmanager
def _redirected(local: Path) -> Generator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [(stream, os.dup(stream)) for stream in (1, 2)]
    with local.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in kept:
            os.dup2(copy, stream)
            os.close(copy)


@contextmanager
def _uploaded(store: Store, local: Path, relative: str) -> Generator[None]:
    """Copy the log to its store now and then, and at the end."""
    if store.folder is not None:
        yield
        return

    def upload() -> None:
        with suppress(StoreError):  # the next one may succeed; training does not depend on it
            store.upload(local, relative)

    try:
        with repeating(upload, UPLOAD_S):
            yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        store.upload(local, relative)


def read(store: Store, run: str, rank: int, *, follow: bool = False) -> Iterator[str]:
    """A worker's log, piece by piece; with `follow`, until nobody writes the run any more.

    Raises:
        RequestError: There is none.
    """
    relative = f"{folder(run)}/rank-{rank}.log"
    at = 0
    while True:
        ended = lock.holder(store, run) is None
        try:
            text = store.read(relative)
        except FileNotFoundError:
            if ended or not follow:
                names = ", ".join(store.names(folder(run))) or "none"
                raise RequestError(f"the run {run} has no log of rank {rank}; it has {names}") from None
            text = b""
        if len(text) > at:
            yield text[at:].decode(errors="replace")
            at = len(text)
        if ended or not follow:
            return
        time.sleep(FOLLOW_S)
