"""Verification: every shard's bytes against the digest that was recorded, several at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from genloom.errors import DataError
from genloom_platform.data import shards
from genloom_platform.data.manifest import Manifest
from genloom_platform.store import Store

READERS = 8


def damages(
    store: Store, manifest: Manifest, on_bytes: Callable[[int], None] = lambda done: None
) -> list[str]:
    """What is wrong with a dataset's shards, in words; nothing where all are whole."""
    found: list[str] = []
    done = 0
    with ThreadPoolExecutor(READERS) as pool:
        work = {pool.submit(shards.verify, store, manifest, shard): shard for shard in manifest.shards}
        for future in as_completed(work):
            try:
                future.result()
            except DataError as error:
                found.append(str(error))
            done += work[future].size_bytes
            on_bytes(done)
    return sorted(found)
