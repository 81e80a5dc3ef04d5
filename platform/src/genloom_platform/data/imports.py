"""Import: a source becomes shards, and then, at one stroke, a dataset. Read on in `parts`.

    source ── units ──> parts (read, cleaned, encoded) ──> layout (duplicates, ranges) ──> shards ──> manifest

Parts and shards are made in parallel and kept until the end, so an import that was interrupted goes on
where it was. The manifest is written last: until then there is no dataset.
"""

import datetime
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from genloom.data import ClassColumn, Column, IdColumn
from genloom.errors import DataError, GenloomError, RequestError, StoreError
from genloom.formats import Files, Format, Unit
from genloom_platform.data import layout, manifest, parallel, parts, shards, statistics
from genloom_platform.data.annotate import label_steps
from genloom_platform.data.augment import augment_steps
from genloom_platform.data.clean.steps import cleaning_steps
from genloom_platform.data.commit import added_up, commit, existing, quarantine
from genloom_platform.data.item import Step
from genloom_platform.data.manifest import Manifest, Provenance
from genloom_platform.data.parts import UNREADABLE, Reading, Record
from genloom_platform.data.recipe import Recipe, resolve
from genloom_platform.data.shards import Writing, Written
from genloom_platform.data.source import Nothing, explained, open_files
from genloom_platform.data.splits import Splitting
from genloom_platform.names import identifier
from genloom_platform.store import Store

CLUSTER_BYTES = 64 << 20
"""A larger source is read on the cluster; a smaller one is done before a cluster would be up."""
UNPACKED = "unpacked"
"""Where archives without an index are laid out while they are imported."""
IMPORTER = f"genloom-platform {version('genloom-platform')}"


@dataclass(frozen=True)
class Progress:
    """How far an import is."""

    phase: str
    """`reading` or `writing`."""
    done: int
    total: int
    """Bytes of the source, or shards."""
    rows: int
    left_out: int


class StampedFiles(Files, Protocol):
    """Files, and what tells them from those that lay there at another time."""

    @property
    def stamp(self) -> str:
        """Changes where a file changes."""
        ...


@dataclass(frozen=True)
class Making:
    """A dataset that is to be made: whence, how, and where to."""

    store: Store
    name: str
    files: StampedFiles
    reader: Format
    recipe: Recipe
    steps: Sequence[Step]
    source_columns: Mapping[str, Column]
    """What the source has."""
    columns: Mapping[str, Column]
    """What the rows have after all steps."""
    parents: tuple[str, ...] = ()
    on_progress: Callable[[Progress], None] = lambda progress: None
    on_cluster: bool | None = None

    @property
    def place(self) -> str:
        """The import's folder, by what decides its content: the same import finds what it left."""
        recipe, labels = self.recipe.model_dump(mode="json"), ""
        if self.recipe.labels:
            labels = hashlib.sha256(Path(self.recipe.labels.file).expanduser().read_bytes()).hexdigest()
        stated = [recipe, labels, self.files.url, self.files.stamp, self.parents, IMPORTER]
        return f"import-{hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:16]}"


def import_dataset(
    store: Store,
    format: str,
    source: str | None,
    name: str | None,
    settings: Mapping[str, Any],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_cluster: bool | None = None,
) -> Manifest:
    """Bring a source into the store as a dataset.

    Args:
        store: Where it goes.
        format: The format's name.
        source: A path or URL, or None for a format that brings its own data.
        name: The dataset's name; the format's own where None.
        settings: Keys of the recipe, and the format's options.
        on_progress: Called as it goes.
        on_cluster: Whether to read on the cluster; by the source's size where None.

    Raises:
        InvalidConfig: All that is wrong with the settings.
        RequestError: No such format or source.
        DataError: The source is not what it claims to be.
        StoreError: The source or the store cannot be reached.
    """
    recipe = resolve(recipe_values(format, source, settings))
    name = dataset_name(name or format)
    store.check_writable()
    scratch = f"{manifest.folder(name)}/{UNPACKED}"
    try:
        files = Nothing() if source is None else open_files(source, store, scratch)
        reader = recipe.reader()
        with explained(source or format):
            source_columns = dict(reader.columns(files))
        steps, columns = steps_of(recipe, source_columns)
        making = Making(store, name, files, reader, recipe, steps, source_columns, columns)
        return make(replace(making, on_progress=on_progress, on_cluster=on_cluster))
    finally:
        for left in store.names(manifest.folder(name)):
            if left.startswith(UNPACKED):
                store.delete(f"{manifest.folder(name)}/{left}")


def dataset_name(name: str) -> str:
    """The name itself, where a dataset may have it.

    Raises:
        RequestError: It is no identifier, or means something else.
    """
    if name == "mixture":
        raise RequestError("'mixture' names datasets that are read as one; give another name")
    return identifier("dataset", name)


def recipe_values(format: str, source: str | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The raw recipe: what is no key of it is an option of the format."""
    values: dict[str, Any] = {"format": format, "source": source, "options": {}}
    for key, value in settings.items():
        if key in Recipe.model_fields and key != "options":
            values[key] = value
        elif key == "options":
            values["options"] |= value
        else:
            values["options"][key] = value
    return values


def steps_of(
    recipe: Recipe, columns: dict[str, Column], parent: str = ""
) -> tuple[list[Step], dict[str, Column]]:
    """What is done to the rows, in order, and the columns that they then have.

    Args:
        recipe: What is asked for.
        columns: What the source has.
        parent: The version of the dataset that is the source, if it is one.

    Raises:
        RequestError: A rule has no column to look at, or a column has a name of ours.
    """
    labels, columns = label_steps(recipe.labels, columns)
    reserved = [name for name in columns if name.startswith("_")]
    if reserved:
        raise RequestError(
            f"columns whose names begin with _ are the platform's own, as {reserved[0]!r} would be; rename it "
            f"at the source, or leave it out (columns.{reserved[0]}=skip)"
        )
    steps = [*labels, Splitting(recipe.split), *cleaning_steps(recipe.clean, columns)]
    return [*steps, *augment_steps(recipe.augment, columns, recipe.seed, parent)], columns


def make(making: Making) -> Manifest:
    """Make a dataset, or find that it was made.

    Raises: as `import_dataset`.
    """
    store, place = making.store, making.place
    target = f"{manifest.folder(making.name)}/{place}"
    known = existing(store, making.name, place)
    if known:
        return known
    try:
        return _make(making, target, place)
    except GenloomError as error:
        if not isinstance(error, StoreError):
            store.delete(target)  # what the source or the request got wrong is not worth keeping
        raise


def _make(making: Making, target: str, place: str) -> Manifest:
    store, recipe = making.store, making.recipe
    with explained(making.files.url):
        units = making.reader.units(making.files)
    large = sum(unit.size_bytes for unit in units) >= CLUSTER_BYTES
    on_cluster = large if making.on_cluster is None else making.on_cluster
    records = _read(making, target, units, on_cluster)
    part_names = [part for record in records for part in record.parts]
    if not part_names:
        raise DataError(f"{making.files.url or recipe.format}: no row is left; {_left_out(records)}")
    whole = layout.parts_dataset(store, target, part_names)
    columns = _with_names(making.columns, records)
    ids = layout.dense_ids(whole, columns)
    columns = {
        name: IdColumn(count=len(ids[name])) if name in ids else column
        for name, column in columns.items()
    }
    plans = layout.plan(whole, recipe.clean, columns)
    writing = Writing(store, target, place, part_names, columns, ids, plans)
    written = _write(making, writing, sum(record.rows for record in records), on_cluster)
    tallies: dict[str, statistics.Tally] = {}
    for each in written:
        tallies.setdefault(each.split, statistics.Tally()).add(each.tally)
    if "train" not in tallies:
        raise DataError(
            f"{making.files.url or recipe.format} has no rows to train on; check its splits"
        )
    columns = statistics.completed(columns, tallies)
    rules = added_up([*(record.rules for record in records), *(each.rules for each in written)])
    made_of = tuple(each.shard for each in written)
    finished = Manifest(
        name=making.name,
        digest=manifest.digest_of(columns, made_of),
        columns=columns,
        shards=made_of,
        statistics={split: each.statistics(columns) for split, each in tallies.items()},
        quarantine=quarantine(store, target, rules),
        provenance=Provenance(
            format=recipe.format,
            source=making.files.url or recipe.format,
            importer=IMPORTER,
            recipe=recipe.stated(),
            parents=making.parents,
        ),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
    )
    return commit(store, finished, place, ids)


def _read(making: Making, target: str, units: Sequence[Unit], on_cluster: bool) -> list[Record]:
    """All units as parts."""
    total = sum(unit.size_bytes for unit in units)
    reading = Reading(
        making.store,
        target,
        making.files,
        making.reader,
        making.source_columns,
        making.columns,
        making.recipe,
        making.steps,
        units,
    )
    records: list[Record] = []
    done = rows = left_out = 0
    for record in parallel.run(parts.read_unit, reading, len(units), on_cluster):
        records.append(record)
        done += total // len(units)
        rows, left_out = rows + record.rows, left_out + sum(record.rules.values())
        making.on_progress(Progress("reading", min(done, total), total, rows, left_out))
    bad = sum(record.rules.get(UNREADABLE, 0) for record in records)
    if bad > making.recipe.bad_share * (rows + left_out):
        examples = [example for record in records for example in record.examples][:3]
        raise DataError(
            f"{making.files.url}: {bad:,} of {rows + left_out:,} rows cannot be read, more than bad_share = "
            f"{making.recipe.bad_share:g} allows; the first: {'; '.join(examples)}; repair the source, or "
            f"raise bad_share"
        )
    return sorted(records, key=lambda record: record.parts)


def _write(making: Making, writing: Writing, rows: int, on_cluster: bool) -> list[Written]:
    """All shards, in the order of the plan."""
    count = len(writing.plans)
    written: list[Written] = []
    for each in parallel.run(shards.write_shard, writing, count, on_cluster):
        written.append(each)
        making.on_progress(Progress("writing", len(written), count, rows, 0))
    return sorted(written, key=lambda each: each.shard.path)


def _with_names(columns: Mapping[str, Column], records: Sequence[Record]) -> dict[str, Column]:
    """The columns with the names of all classes that occur."""
    found: dict[str, set[str]] = {}
    for record in records:
        for name, names in record.classes.items():
            found.setdefault(name, set()).update(names)
    return {
        name: ClassColumn(names=_sorted(found[name])) if name in found else column
        for name, column in columns.items()
    }


def _sorted(names: set[str]) -> tuple[str, ...]:
    """Class names in order: whole numbers as numbers, so that class 3 is the third."""
    if all(name.lstrip("-").isdigit() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _left_out(records: Sequence[Record]) -> str:
    rules = added_up(record.rules for record in records)
    return ", ".join(f"{count:,} {rule}" for rule, count in rules.items()) or "the source is empty"


__all__ = ["Making", "Progress", "import_dataset", "make", "recipe_values", "steps_of"]
