"""The end of an import: the quarantine table, the manifest, and what is cleared away.

The manifest is written last, so a dataset is there at one stroke or not at all; and an import that was
done before is found, repaired or passed over here.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from genloom.errors import DataError
from genloom_platform.data.manifest import Manifest, Quarantine, folder, load
from genloom_platform.data.parts import QUARANTINE
from genloom_platform.data.verify import damages
from genloom_platform.store import Store

SCRATCH = ("parts", "aside", "records")
"""What an import keeps until it is done."""
ABANDONED_S = 7 * 24 * 3600
"""An unfinished import in which nothing was written for so long is not taken up again."""


def existing(store: Store, name: str, place: str) -> Manifest | None:
    """The dataset that an import into this place made before, where it is still whole."""
    for known in _readable(store, name):
        if any(shard.path.startswith(f"{place}/") for shard in known.shards):
            return None if damages(store, known) else known  # where damaged, it is made again
    return None


def commit(store: Store, finished: Manifest, place: str, ids: Mapping[str, Any]) -> Manifest:
    """Write the manifest, and clear away what it was made from.

    Args:
        store: Where the dataset lies.
        finished: Its manifest.
        place: The import's folder, below the dataset's.
        ids: The original ids of columns that were made dense, by the dense ones.
    """
    target = f"{folder(finished.name)}/{place}"
    known = next((k for k in _readable(store, finished.name) if k.digest == finished.digest), None)
    if known and known.shards[0].path == finished.shards[0].path:
        finished = known  # its shards were damaged, and are whole again
    elif known and not damages(store, known):
        store.delete(target)  # another recipe with the same content
        return known
    for column, values in ids.items():
        with store.writing(f"{target}/ids-{column}.parquet") as sink:
            pq.write_table(pa.table({column: values}), sink)
    record = f"{folder(finished.name)}/{finished.version}.json"
    store.write(record, finished.model_dump_json(indent=1).encode())
    for scratch in SCRATCH:
        store.delete(f"{target}/{scratch}")
    _clear_abandoned(store, finished.name)
    return finished


def added_up(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """How many rows each rule left out, over all pieces of an import."""
    rules: dict[str, int] = {}
    for each in counts:
        for rule, count in each.items():
            rules[rule] = rules.get(rule, 0) + count
    return rules


def quarantine(store: Store, target: str, rules: Mapping[str, int]) -> Quarantine | None:
    """All rows that were left out, as one table; None where there are none."""
    if not rules:
        return None
    paths = [store.path(f"{target}/aside/{name}") for name in store.names(f"{target}/aside")]
    with (
        store.writing(f"{target}/quarantine.parquet") as sink,
        pq.ParquetWriter(sink, QUARANTINE) as out,
    ):
        for batch in ds.dataset(sorted(paths), filesystem=store.fs, format="parquet").to_batches():
            if batch.num_rows:
                out.write_batch(batch)
    place = target.rpartition("/")[2]
    return Quarantine(path=f"{place}/quarantine.parquet", rows=sum(rules.values()), rules=dict(rules))


def _readable(store: Store, name: str) -> Sequence[Manifest]:
    """The versions of a dataset; a damaged manifest is none, and must not stand in the way of its repair."""
    found: list[Manifest] = []
    for file in store.names(folder(name)):
        if file.endswith(".json"):
            try:
                found.append(load(store, f"{name}@{file.removesuffix('.json')}"))
            except DataError:
                continue
    return found


def _clear_abandoned(store: Store, name: str) -> None:
    """Delete what unfinished imports of this name left long ago."""
    used = {shard.path.partition("/")[0] for known in _readable(store, name) for shard in known.shards}
    now = datetime.datetime.now(datetime.UTC).timestamp()
    for place in store.names(folder(name)):
        if place.startswith("import-") and place not in used:
            newest = store.modified_at(f"{folder(name)}/{place}")
            if newest and now - newest > ABANDONED_S:
                store.delete(f"{folder(name)}/{place}")
