"""Weights on this machine: what lies in a store elsewhere is fetched once, and mapped by all who read it."""

import hashlib
import os
import time
from pathlib import Path

from filelock import FileLock

from genloom.errors import DataError
from genloom_platform.store import Store

KEPT_S = 30 * 24 * 3600
"""Weights that nobody has read for so long are removed when others come."""


def cache_folder() -> Path:
    """Where weights lie."""
    return Path.home() / ".genloom" / "cache"


def local(store: Store, path: str, sha256: str) -> Path:
    """A verified file of this machine with a store's weights: the store's own where it is here, else a copy.

    Processes that ask for the same weights at the same time wait for the first of them.

    Raises:
        DataError: The weights are not those of the digest, or are gone.
    """
    try:
        if store.folder is not None:
            found = store.folder / path
            if digest(found) != sha256:
                raise corrupt(store, path)
            return found
        return _fetched(store, path, sha256)
    except FileNotFoundError as error:
        raise gone(store, path) from error


def _fetched(store: Store, path: str, sha256: str) -> Path:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = folder / f"{sha256}.safetensors"
    if not _holds(kept, sha256):
        with FileLock(f"{kept}.lock"):
            if not _holds(kept, sha256):
                draft = folder / f"{sha256}.{os.getpid()}.part"
                if store.download(path, draft) != sha256:
                    draft.unlink()
                    raise corrupt(store, path)
                os.replace(draft, kept)
                _clear(folder)
    os.utime(kept)
    return kept


def _holds(path: Path, sha256: str) -> bool:
    return path.exists() and digest(path) == sha256


def _clear(folder: Path) -> None:
    """Remove what nobody has read for long."""
    for file in folder.iterdir():
        if time.time() - file.stat().st_mtime > KEPT_S:
            file.unlink(missing_ok=True)


def gone(store: Store, path: str) -> DataError:
    """What is said of weights that are missing."""
    return DataError(f"the weights {store.url}/{path} are gone; train the model again")


def corrupt(store: Store, path: str) -> DataError:
    """What is said of weights that are not those that were released."""
    return DataError(f"the weights {store.url}/{path} are corrupt; train the model again")


def digest(path: Path) -> str:
    """The SHA-256 of a file of this machine."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
