"""A dataset's manifest: what it holds, where its shards are, and where it came from.

A dataset is immutable. Its version is the digest of its content, so the same rows imported twice are
the same version. `<name>.json` is written last: until then there is no dataset.
"""

import hashlib
import json
from contextlib import suppress
from typing import Any

from pydantic import Field, ValidationError

import genloom
from genloom.data import Column, Facts
from genloom.errors import DataError, UnknownName, WrongDataset
from genloom_platform.names import identifier
from genloom_platform.store import Store


class Shard(Facts):
    """One file of rows."""

    path: str
    """Relative to the dataset's folder: a Parquet file."""
    split: str
    chunks: tuple[int, ...]
    """Rows of each chunk (a row group): the unit that can be read alone."""
    size_bytes: int
    sha256: str


class Provenance(Facts):
    """Where a dataset came from, and all that was done to it on the way."""

    format: str
    source: str
    importer: str
    """The package and version that imported it."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """Format options, splits, cleaning, labels and augmentation, as they were in force."""
    parents: tuple[str, ...] = ()
    """The datasets (`name@version`) and models that it was made from."""


class Measure(Facts):
    """A number that every row has, over the rows of a split."""

    minimum: float
    maximum: float
    mean: float
    deviation: float


class ColumnStatistics(Facts):
    """A column's values in one split."""

    rows: int
    counts: dict[str, int] | None = None
    """Rows of each class."""
    measures: dict[str, Measure] = Field(default_factory=dict)
    """By name, as in "height", "channel 0" (pixels from 0 to 1), "seconds", "characters", "value"."""


class Quarantine(Facts):
    """The rows that were left out."""

    path: str
    """A Parquet file, relative to the dataset's folder: key, rule, detail, content."""
    rows: int
    rules: dict[str, int]
    """How many rows each rule left out."""


class Manifest(Facts):
    """All that is known of a dataset."""

    name: str
    digest: str
    """SHA-256 over the columns and the shards' digests."""
    columns: dict[str, Column]
    shards: tuple[Shard, ...]
    statistics: dict[str, dict[str, ColumnStatistics]] = Field(default_factory=dict)
    """Split → column → statistics."""
    quarantine: Quarantine | None = None
    """What was left out, if anything was."""
    provenance: Provenance
    created_at: str
    """UTC, ISO 8601."""

    @property
    def version(self) -> str:
        """The first 12 digits of the digest."""
        return self.digest[:12]

    @property
    def full_name(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def splits(self) -> dict[str, int]:
        """Rows of each split."""
        rows: dict[str, int] = {}
        for shard in self.shards:
            rows[shard.split] = rows.get(shard.split, 0) + sum(shard.chunks)
        return rows

    @property
    def size_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size_bytes for shard in self.shards)

    def path_of(self, shard: Shard) -> str:
        """Where a shard lies in the store."""
        return f"{folder(self.name)}/{shard.path}"

    def shards_of(self, split: str) -> list[Shard]:
        """The shards of a split.

        Raises:
            UnknownName: There is no such split.
        """
        if split not in self.splits:
            raise UnknownName(f"split of {self.full_name} named", split, self.splits)
        return [shard for shard in self.shards if shard.split == split]

    def facts_for(self, trainable: genloom.Trainable | type[genloom.Trainable]) -> genloom.Data:
        """The dataset's facts as a generator's own `Data`.

        Raises:
            WrongDataset: Columns that it learns from are missing or of another kind; all are named.
        """
        try:
            return trainable.Data.model_validate(dict(self.columns))
        except ValidationError as error:
            cls = trainable if isinstance(trainable, type) else type(trainable)
            raise WrongDataset(self._mismatch(cls, error)) from error

    def _mismatch(self, cls: type[genloom.Trainable], error: ValidationError) -> str:
        wanted = {name: _kind(field.annotation) for name, field in cls.Data.model_fields.items()}
        faults: list[str] = []
        for name in dict.fromkeys(str(item["loc"][0]) for item in error.errors()):
            has = f"has {name!r} as {self.columns[name].kind}" if name in self.columns else "lacks it"
            faults.append(
                f"{cls.__name__} learns from a column {name!r} of kind {wanted[name]}, and it {has}"
            )
        columns = ", ".join(f"{name}: {column.kind}" for name, column in self.columns.items())
        return (
            f"the dataset {self.full_name} ({columns}) does not fit: {'; '.join(faults)}; "
            f"choose another dataset (genloom data list)"
        )


def digest_of(columns: dict[str, Column], shards: tuple[Shard, ...]) -> str:
    """The digest that identifies a dataset's content."""
    content = {
        "columns": {name: column.model_dump(mode="json") for name, column in columns.items()},
        "shards": [[shard.split, list(shard.chunks), shard.sha256] for shard in shards],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def folder(name: str) -> str:
    """A dataset's folder in a store."""
    return f"datasets/{identifier('dataset', name)}"


def list_datasets(store: Store) -> list[Manifest]:
    """Every version of every dataset whose manifest can be read, by name, the newest first."""
    found: list[Manifest] = []
    for name in store.names("datasets"):
        for file in store.names(f"datasets/{name}"):
            if file.endswith(".json"):
                with suppress(DataError):  # `load` tells of it to whoever asks for that one
                    found.append(load(store, f"{name}@{file.removesuffix('.json')}"))
    found.sort(key=lambda manifest: manifest.created_at, reverse=True)
    return sorted(found, key=lambda manifest: manifest.name)


def load(store: Store, reference: str) -> Manifest:
    """The manifest of `name` (its newest version), of `name@version`, or of a mixture: `a*0.7 + b*0.3`.

    Raises:
        UnknownName: There is no such dataset or version.
        DataError: The manifest is damaged.
    """
    from genloom_platform.data import mixture

    if mixture.is_mixture(reference):
        parts = mixture.parse(reference)
        return mixture.mixed([load(store, part) for part, _ in parts], [weight for _, weight in parts])
    name, _, version = reference.partition("@")
    names = store.names("datasets")
    if name not in names:
        raise UnknownName("dataset", name, names, "genloom data import brings one in")
    versions = [
        file.removesuffix(".json") for file in store.names(folder(name)) if file.endswith(".json")
    ]
    if version:
        if version not in versions:
            raise UnknownName(f"version of {name!r} named", version, versions)
        return _read(store, f"{folder(name)}/{version}.json")
    if not versions:
        raise UnknownName("dataset", name, set(names) - {name}, "an import of it was never finished")
    return max((_read(store, f"{folder(name)}/{v}.json") for v in versions), key=lambda m: m.created_at)


def _read(store: Store, path: str) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(store.read(path))
    except ValidationError as error:
        raise DataError(
            f"the manifest {store.url}/{path} is damaged; import the dataset again"
        ) from error
    if digest_of(manifest.columns, manifest.shards) != manifest.digest:
        raise DataError(f"the manifest {store.url}/{path} was altered; import the dataset again")
    return manifest


def _kind(annotation: Any) -> str:
    kinds = [annotation, *getattr(annotation, "__args__", ())]
    return next(k.model_fields["kind"].default for k in kinds if hasattr(k, "model_fields"))
