"""Import: a source in a published format becomes shards, and then, at one stroke, a dataset."""

import datetime
import hashlib
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from genloom.data import Column
from genloom.errors import DataError
from genloom_platform.data import formats, shards
from genloom_platform.data.manifest import Manifest, Provenance, Shard, digest_of, folder, load
from genloom_platform.store import Store, identifier


def import_dataset(
    store: Store,
    format_name: str,
    source: str | None,
    name: str | None,
    options: dict[str, Any],
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Manifest:
    """Bring a source into the store as a dataset.

    Args:
        store: Where it goes.
        format_name: One of `formats.FORMATS`.
        source: A path, or None for a format that ships with its library.
        name: The dataset's name; the format's own where None.
        options: The format's options, by name.
        on_rows: Called with the rows written so far.

    Raises:
        RequestError: No such format, a missing source, an option that it does not have.
        DataError: The source is not what it claims to be.
        StoreError: The store cannot be written.
    """
    reader = formats.open_source(format_name, source, options)
    name = identifier("dataset", name or format_name)
    store.check_writable()
    place = f"import-{secrets.token_hex(6)}"
    statistics = shards.Statistics(reader.columns)
    try:
        written = tuple(_write(store, f"{folder(name)}/{place}", place, reader, statistics, on_rows))
        columns = statistics.columns()
        if not any(shard.split == "train" for shard in written):
            raise DataError(f"{source or format_name} holds no rows to train on; check the source")
        manifest = Manifest(
            name=name,
            digest=digest_of(columns, written),
            columns=columns,
            shards=written,
            provenance=Provenance(
                format=format_name,
                source=reader.source,
                importer=f"genloom-platform {version('genloom-platform')}",
                options=reader.options,
            ),
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        )
    except BaseException:
        store.delete(f"{folder(name)}/{place}")
        raise
    record = f"{folder(name)}/{manifest.version}.json"
    if store.exists(record):
        store.delete(f"{folder(name)}/{place}")
        return load(store, manifest.full_name)
    store.write(record, manifest.model_dump_json(indent=1).encode())
    return manifest


def _write(
    store: Store,
    target: str,
    place: str,
    reader: formats.Source,
    statistics: shards.Statistics,
    on_rows: Callable[[int], None],
) -> Iterator[Shard]:
    """Write the source's rows, shard by shard."""
    with tempfile.TemporaryDirectory(prefix="genloom-import-") as scratch:
        open_shards: dict[str, _Draft] = {}
        numbers: dict[str, int] = {}
        for count, (split, row) in enumerate(reader.rows(), 1):
            if split not in open_shards:
                number = numbers[split] = numbers.get(split, -1) + 1
                file = f"{split}-{number:05d}.arrow"
                open_shards[split] = _Draft(Path(scratch) / file, split, reader.columns)
            draft = open_shards[split]
            statistics.add(split, row)
            draft.add(row)
            on_rows(count)
            if draft.size_bytes >= shards.SHARD_BYTES:
                yield draft.finish(store, target, place)
                del open_shards[split]
        for draft in open_shards.values():
            yield draft.finish(store, target, place)


class _Draft:
    """A shard that is being written, on the local disk."""

    def __init__(self, path: Path, split: str, columns: Mapping[str, Column]) -> None:
        self._path, self._split, self._columns = path, split, columns
        self._rows: list[dict[str, Any]] = []
        self._chunks: list[int] = []
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, shards.arrow_schema(columns))

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""
        return self._sink.tell()

    def add(self, row: dict[str, Any]) -> None:
        """Take one row."""
        self._rows.append(row)
        if len(self._rows) == shards.CHUNK_ROWS:
            self._flush()

    def finish(self, store: Store, target: str, place: str) -> Shard:
        """Close the shard and bring it into the store."""
        self._flush()
        self._writer.close()
        self._sink.close()
        size_bytes, sha256 = store.upload(self._path, f"{target}/{self._path.name}")
        self._path.unlink()
        return Shard(
            path=f"{place}/{self._path.name}",
            split=self._split,
            chunks=tuple(self._chunks),
            size_bytes=size_bytes,
            sha256=sha256,
        )

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(shards.encode(self._columns, self._rows))
            self._chunks.append(len(self._rows))
            self._rows = []


def held_out(key: str, fraction: float) -> bool:
    """Whether a row belongs to the test split, decided by its key alone: the same in every import."""
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    return draw < fraction
