"""Export: a dataset back as Parquet files, or as a folder that a person can open."""

import csv
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from genloom.data import ClassColumn, IdColumn
from genloom.errors import RequestError
from genloom_platform.data import shards
from genloom_platform.data.encoding import KEY
from genloom_platform.data.item import MEDIA
from genloom_platform.data.manifest import Manifest
from genloom_platform.store import Store

SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"MThd": ".mid"}


def export(
    store: Store,
    manifest: Manifest,
    target: Path,
    layout: str,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> None:
    """Write a dataset into a new folder.

    Args:
        store: Where it lies.
        manifest: The dataset.
        target: A folder that does not exist or is empty.
        layout: `parquet`, one file a shard with classes by name; or `folder`, media as files beside a
            `metadata.csv` in each split with the key and all other columns.
        on_rows: Called with the rows written so far.

    Raises:
        RequestError: The folder is not empty.
        DataError: A shard is damaged.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RequestError(f"{target} exists and is not empty; name a new folder")
    target.mkdir(parents=True, exist_ok=True)
    write = _parquet if layout == "parquet" else _folder
    rows = 0
    for split in manifest.splits:
        for number, shard in enumerate(manifest.shards_of(split)):
            rows += write(store, manifest, shard, target, number)
            on_rows(rows)
    (target / "dataset.json").write_text(manifest.model_dump_json(indent=1))


def _parquet(store: Store, manifest: Manifest, shard: Any, target: Path, number: int) -> int:
    path = target / f"{shard.split}-{number:05d}.parquet"
    rows = 0
    writer = None
    for chunk in range(len(shard.chunks)):
        table = _named(store, manifest, _chunk(store, manifest, shard, chunk))
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
        rows += table.num_rows
    if writer:
        writer.close()
    return rows


def _folder(store: Store, manifest: Manifest, shard: Any, target: Path, number: int) -> int:
    media = [name for name, column in manifest.columns.items() if column.kind in MEDIA]
    label = next((n for n, column in manifest.columns.items() if isinstance(column, ClassColumn)), None)
    table_path = target / shard.split / "metadata.csv"
    table_path.parent.mkdir(parents=True, exist_ok=True)
    rows = 0
    with table_path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for chunk in range(len(shard.chunks)):
            table = _named(store, manifest, _chunk(store, manifest, shard, chunk))
            key = table.column_names[-1]
            if file.tell() == 0:
                writer.writerow([key, *manifest.columns])
            for row in table.to_pylist():
                stem = f"{number:05d}-{rows:07d}-{_plain(PurePosixPath(row[key]).stem)}"
                folder = _plain(row[label]) if label else ""
                cells: list[Any] = [row[key]]
                for name in manifest.columns:
                    value = row[name]
                    if name in media:
                        place = folder if len(media) == 1 else f"{folder}/{name}".strip("/")
                        value = _media_file(target / shard.split, place, stem, value)
                    cells.append(json.dumps(value) if isinstance(value, list) else value)
                writer.writerow(cells)
                rows += 1
    return rows


def _chunk(store: Store, manifest: Manifest, shard: Any, chunk: int) -> pa.Table:
    return shards.read_chunks(store, manifest, shard, [chunk], [*manifest.columns, KEY])


def _named(store: Store, manifest: Manifest, table: pa.Table) -> pa.Table:
    """The table with classes by their names and ids as they were."""
    for name, column in manifest.columns.items():
        if isinstance(column, ClassColumn):
            at = table.schema.get_field_index(name)
            names = pa.array(column.names, pa.string()).take(table.column(name).combine_chunks())
            table = table.set_column(at, name, names)
        elif isinstance(column, IdColumn):
            originals = _originals(store, manifest, name)
            if originals is not None:
                at = table.schema.get_field_index(name)
                ids = originals.take(table.column(name).combine_chunks())
                table = table.set_column(at, name, ids)
    key = "key" if "key" not in manifest.columns else "row_key"
    return table.rename_columns([key if name == KEY else name for name in table.column_names])


def _originals(store: Store, manifest: Manifest, column: str) -> Any:
    """The source's ids by the dense ones, where the import made them dense."""
    place = manifest.path_of(manifest.shards[0]).rpartition("/")[0]
    path = f"{place}/ids-{column}.parquet"
    if not store.exists(path):
        return None
    with store.open(path) as file:
        return pq.read_table(file).column(0).combine_chunks()


def _media_file(folder: Path, place: str, stem: str, data: bytes) -> str:
    """Write a file below a folder of its class, where it has one; returns its path within the split."""
    suffix = next((s for magic, s in SUFFIXES.items() if data.startswith(magic)), ".bin")
    if data[8:12] == b"WAVE":
        suffix = ".wav"
    path = folder / place / f"{stem}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path.relative_to(folder))


def _plain(name: str) -> str:
    """A name as a part of a path."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:60]
