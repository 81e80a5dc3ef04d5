"""Shards: Parquet files of rows in groups that can be read alone.

Parquet because everything reads it; groups of about a megabyte, so that a shuffle's window is a few large
reads; media uncompressed, for they are compressed already; a checksum for each page, so that a damaged
byte is an error where it is read, and not a wrong pixel.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genloom.data import Column
from genloom.errors import DataError, StoreError
from genloom_platform.data import statistics
from genloom_platform.data.encoding import KEY, with_known_classes
from genloom_platform.data.item import MEDIA
from genloom_platform.data.layout import Plan, parts_dataset
from genloom_platform.data.manifest import Manifest, Shard
from genloom_platform.data.parts import KEPT_CONTENT_BYTES, QUARANTINE
from genloom_platform.data.statistics import Tally
from genloom_platform.store import Store

VERIFY_BYTES = 4 << 20
SMALL_BYTES = 256 << 20
"""What is read in about a second."""


@dataclass(frozen=True)
class Writing:
    """All that a worker needs to write any shard."""

    store: Store
    folder: str
    """The import's folder in the store."""
    place: str
    """The same, relative to the dataset's folder."""
    parts: Sequence[str]
    columns: Mapping[str, Column]
    """With the names of all classes."""
    ids: Mapping[str, pa.Array]
    plans: Sequence[Plan]


@dataclass
class Written:
    """A shard that is in the store."""

    shard: Shard
    split: str
    tally: Tally
    rules: dict[str, int]


def write_shard(writing: Writing, number: int) -> Written:
    """Gather one shard from all parts and write it, unless it was done before."""
    plan = writing.plans[number]
    record = f"{writing.folder}/records/{plan.name}.json"
    if writing.store.exists(record):
        done = writing.store.read_json(record)
        shard, tally = Shard.model_validate(done["shard"]), Tally(**done["tally"])
        return Written(shard, plan.split, tally, done["rules"])
    rows = _gather(writing, plan)
    rules = _set_aside(writing, plan, rows)
    if plan.dropped:
        rows = rows.filter(~pc.field(KEY).isin(list(plan.dropped)))
    table = with_known_classes(writing.columns, writing.ids, rows)
    facts = pa.table([rows.column(f"_facts {name}") for name in writing.columns], list(writing.columns))
    tally = statistics.tally(writing.columns, table, facts)
    size_bytes, sha256 = write(
        writing.store, f"{writing.folder}/{plan.name}.parquet", table, plan.chunk_rows
    )
    count = table.num_rows
    chunks = tuple(min(plan.chunk_rows, count - at) for at in range(0, count, plan.chunk_rows))
    shard = Shard(
        path=f"{writing.place}/{plan.name}.parquet",
        split=plan.split,
        chunks=chunks,
        size_bytes=size_bytes,
        sha256=sha256,
    )
    done = {"shard": shard.model_dump(), "tally": tally.__dict__, "rules": rules}
    writing.store.write_json(record, done)
    return Written(shard, plan.split, tally, rules)


def write(store: Store, path: str, table: pa.Table, chunk_rows: int) -> tuple[int, str]:
    """Write a table as a shard; returns its size and its SHA-256."""
    media = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    compression: Any = {name: "none" if name in media else "zstd" for name in table.column_names}
    with store.writing(path) as sink:
        pq.write_table(
            table,
            sink,
            row_group_size=chunk_rows,
            compression=compression,
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )
    return sink.size_bytes, sink.sha256


def read_chunks(
    store: Store,
    manifest: Manifest,
    shard: Shard,
    chunks: Sequence[int],
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Some chunks of a shard, by their numbers; of some columns, or of all that are declared.

    Raises:
        DataError: The shard is missing or damaged.
    """
    path = manifest.path_of(shard)
    try:
        with store.open(path) as source:
            file = pq.ParquetFile(source, pre_buffer=True, page_checksum_verification=True)
            refuse_pickles(file.schema_arrow, f"{store.url}/{path}")
            return file.read_row_groups(list(chunks), columns=list(columns or manifest.columns))
    except FileNotFoundError as error:
        raise DataError(_damage(store, manifest, path, "is missing")) from error
    except (pa.ArrowInvalid, pa.ArrowKeyError, IndexError) as error:
        raise DataError(_damage(store, manifest, path, f"cannot be read ({error})")) from error
    except OSError as error:
        if (
            "CRC" in str(error)
            or "Couldn't deserialize" in str(error)
            or "Unexpected end" in str(error)
        ):
            raise DataError(_damage(store, manifest, path, f"is corrupt ({error})")) from error
        raise StoreError(f"cannot read {store.url}/{path}: {error}; is the store reachable?") from error


def verify(store: Store, manifest: Manifest, shard: Shard) -> None:
    """Raise DataError where a shard's bytes are not those that were imported."""
    path = manifest.path_of(shard)
    digest = hashlib.sha256()
    try:
        with store.open(path) as file:
            while block := file.read(VERIFY_BYTES):
                digest.update(block)
    except FileNotFoundError as error:
        raise DataError(_damage(store, manifest, path, "is missing")) from error
    if digest.hexdigest() != shard.sha256:
        raise DataError(
            _damage(store, manifest, path, "is corrupt (its SHA-256 differs from the manifest's)")
        )


def require(store: Store, manifest: Manifest) -> None:
    """Raise DataError where a dataset is damaged, before any work begins.

    A small one is read whole; of a large one the listing is looked at, and each page's checksum as it is read.
    """
    if manifest.size_bytes <= SMALL_BYTES:
        for shard in manifest.shards:
            verify(store, manifest, shard)
        return
    paths = [manifest.path_of(shard) for shard in manifest.shards]
    folders = {path.rpartition("/")[0] for path in paths}
    sizes = {f"{each}/{name}": size for each in folders for name, size in store.sizes(each).items()}
    for shard, path in zip(manifest.shards, paths, strict=True):
        if path not in sizes:
            raise DataError(_damage(store, manifest, path, "is missing"))
        if sizes[path] != shard.size_bytes:
            fault = f"has {sizes[path]:,} bytes and not {shard.size_bytes:,}"
            raise DataError(_damage(store, manifest, path, fault))


def refuse_pickles(schema: pa.Schema, where: str) -> None:
    """Raise DataError where a column would be unpickled when read.

    Once `ray.data` is imported, a column with Ray's extension type for Python objects runs whatever
    code its bytes hold; so the schema is looked at before any value is.
    """
    for field in schema:
        metadata = field.metadata or {}
        extension = metadata.get(b"ARROW:extension:name", b"").decode()
        extension = extension or str(getattr(field.type, "extension_name", ""))
        if "pickle" in extension:
            raise DataError(
                f"{where}: the column {field.name!r} holds pickled objects, which can run code when read; "
                f"remove it at the source"
            )


def _gather(writing: Writing, plan: Plan) -> pa.Table:
    """The rows of a plan from all parts, in the order of their draws."""
    draw = pc.field("_draw")
    low, high = pa.scalar(plan.low, pa.uint64()), pa.scalar(plan.high, pa.uint64())
    wanted = (draw >= low) & (draw <= high) & (pc.field("_split") == plan.split)
    columns = [*writing.columns, KEY, "_draw", *(f"_facts {name}" for name in writing.columns)]
    whole = parts_dataset(writing.store, writing.folder, writing.parts)
    rows = whole.to_table(columns=columns, filter=wanted)
    return rows.sort_by([("_draw", "ascending"), (KEY, "ascending")])


def _set_aside(writing: Writing, plan: Plan, rows: pa.Table) -> dict[str, int]:
    """Write the duplicates to the quarantine; returns how many of each rule."""
    rules: dict[str, int] = {}
    if not plan.dropped:
        return rules
    media = next(
        (n for n, c in writing.columns.items() if c.kind in MEDIA), next(iter(writing.columns))
    )
    out: list[dict[str, Any]] = []
    lost = rows.filter(pc.field(KEY).isin(list(plan.dropped))).select([KEY, media])
    for key, value in zip(lost.column(0).to_pylist(), lost.column(1).to_pylist(), strict=True):
        rule, detail = plan.dropped[key]
        content = value if isinstance(value, bytes) else str(value).encode()
        out.append(
            {"key": key, "rule": rule, "detail": detail, "content": content[:KEPT_CONTENT_BYTES]}
        )
        rules[rule] = rules.get(rule, 0) + 1
    with writing.store.writing(f"{writing.folder}/aside/{plan.name}.parquet") as sink:
        pq.write_table(pa.Table.from_pylist(out, QUARANTINE), sink)
    return rules


def _damage(store: Store, manifest: Manifest, path: str, fault: str) -> str:
    return f"the shard {store.url}/{path} of {manifest.full_name} {fault}; import the dataset again"
