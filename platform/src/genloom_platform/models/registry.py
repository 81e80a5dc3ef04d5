"""The registry: names, versions and tags of released models, in MLflow's database.

MLflow keeps the names; the files are the store's. So any MLflow page or client shows the models.
Aliases are moved by `aliases.py`, files come and go by `publish.py`, `archive.py` and `removal.py`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from genloom.errors import RequestError, UnknownName
from genloom_platform.evaluate.measured import Measured
from genloom_platform.models import record
from genloom_platform.models import release as releases
from genloom_platform.models.database import Client, experiment
from genloom_platform.models.record import Registered
from genloom_platform.models.release import Release
from genloom_platform.names import identifier
from genloom_platform.store import Store

METRIC, INTERVAL = "metric.", "interval."
OURS = ("place", "run", "dataset", "parent")
"""Tags of MLflow that are the platform's, beside those of metrics."""
PAGE = 1000


@dataclass(frozen=True)
class Version:
    """A registered version of a model."""

    name: str
    number: int
    aliases: tuple[str, ...]
    store: Store = field(repr=False)
    place: str
    """Its folder in the store."""
    run: str
    """The run that made it."""
    dataset: str
    """What it was trained on: `name@version`, or a mixture of several."""
    metrics: dict[str, float]
    """What its evaluation gave, by name; a `Measured` carries its interval."""
    tags: dict[str, str]
    """What people have written to it."""
    tracking_id: str | None
    """Its run in MLflow."""

    @property
    def full_name(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.number}"

    @cached_property
    def release(self) -> Release:
        """What is known of its weights.

        Raises:
            DataError: Its files are gone.
        """
        return releases.read(self.store, self.place)


class Registry:
    """The models of a store."""

    def __init__(self, store: Store, *, anew: bool = False) -> None:
        self.store, self._anew = store, anew

    @cached_property
    def client(self) -> Client:
        """MLflow's client, made when it is first needed: it takes seconds to import."""
        return Client(self.store, anew=self._anew)

    def experiment(self) -> str:
        """The id of MLflow's experiment that runs are recorded in; its artifacts lie in the store."""
        return experiment(self.client, self.store)

    def register(self, release: Release, metrics: Mapping[str, float], run_id: str | None) -> Version:
        """Give released weights the next version number of their name."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(release.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {"place": release.path, "run": release.run, "dataset": release.dataset}
        tags |= {"parent": release.parent} if release.parent else {}
        for name, value in metrics.items():
            tags |= _metric_tags(name, value)
        made = self.client.create_model_version(
            release.name, source=f"{self.store.url}/{release.path}", run_id=run_id, tags=tags
        )
        return self._kept(self._version(made, made.aliases))

    def set_metrics(self, version: Version, metrics: Mapping[str, float]) -> Version:
        """Record what an evaluation gave; returns the version with it."""
        number = str(version.number)
        for name, value in metrics.items():
            tags = _metric_tags(name, value)
            for key, text in tags.items():
                self.client.set_model_version_tag(version.name, number, key, text)
            if isinstance(version.metrics.get(name), Measured) and len(tags) == 1:
                self.client.delete_model_version_tag(version.name, number, INTERVAL + name)
        return self._kept(self.find(version.full_name))

    def tag(self, version: Version, set: Mapping[str, str], remove: tuple[str, ...] = ()) -> Version:
        """Write tags to a version and take others away; returns the version with them.

        Raises:
            RequestError: A tag is not one that people write, or one to remove is not there.
        """
        for key, value in set.items():
            if not re.fullmatch(r"[A-Za-z][\w.-]{0,99}", key) or _is_ours(key) or len(value) > 1000:
                raise RequestError(
                    f"{key} = {value[:50]!r} is no tag: its name is letters, digits and . _ -, not one of the "
                    f"platform's ({', '.join(OURS)}, {METRIC}…, {INTERVAL}…), its value at most 1,000 characters"
                )
        for key in remove:
            if key not in version.tags:
                raise UnknownName(f"tag of {version.full_name} named", key, version.tags)
        number = str(version.number)
        for key, value in set.items():
            self.client.set_model_version_tag(version.name, number, key, value)
        for key in remove:
            self.client.delete_model_version_tag(version.name, number, key)
        return self._kept(self.find(version.full_name))

    def names(self) -> list[str]:
        """The names of all models that have a version, sorted."""
        return sorted({version.name for version in self.versions()})

    def versions(self, name: str | None = None) -> list[Version]:
        """The versions of one model, or of all, by name, the newest first."""
        words = f"name = '{identifier('model', name)}'" if name else None
        rows = _pages(self.client.search_model_versions, words)
        aliases: dict[tuple[str, str], list[str]] = {}
        for model in _pages(self.client.search_registered_models, words) if rows else []:
            for alias, number in model.aliases.items():
                aliases.setdefault((model.name, str(number)), []).append(alias)
        found = [
            self._version(row, aliases.get((row.name, str(row.version)), []))
            for row in rows
            if "place" in row.tags  # a tracking server may hold models that are none of ours
        ]
        return sorted(found, key=lambda version: (version.name, -version.number))

    def find(self, reference: str) -> Version:
        """A version by `name` (its newest), `name@number` or `name@alias`.

        Raises:
            UnknownName: There is no such model, version or alias.
        """
        name, _, which = reference.partition("@")
        versions = self.versions(name) if re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) else []
        if not versions:
            raise UnknownName("model", name, self.names(), "genloom models list shows them")
        for version in versions:
            if not which or which == str(version.number) or which in version.aliases:
                return version
        known = [alias for version in versions for alias in version.aliases]
        known += [str(version.number) for version in versions]
        raise UnknownName(f"version or alias of {name!r} named", which, known)

    def _kept(self, version: Version) -> Version:
        """The version, what MLflow knows of it being written beside its weights."""
        known = Registered.of(version.number, version.metrics, version.tags)
        record.write(self.store, version.place, known)
        return version

    def _version(self, row: Any, aliases: list[str]) -> Version:
        return Version(
            name=row.name,
            number=int(row.version),
            aliases=tuple(sorted(aliases)),
            store=self.store,
            place=row.tags["place"],
            run=row.tags["run"],
            dataset=row.tags["dataset"],
            metrics={
                key.removeprefix(METRIC): _metric(value, row.tags.get(key.replace(METRIC, INTERVAL, 1)))
                for key, value in sorted(row.tags.items())
                if key.startswith(METRIC)
            },
            tags={key: value for key, value in sorted(row.tags.items()) if not _is_ours(key)},
            tracking_id=row.run_id or None,
        )


def _is_ours(key: str) -> bool:
    return key in OURS or key.startswith((METRIC, INTERVAL, "mlflow."))


def _metric_tags(name: str, value: float) -> dict[str, str]:
    """A metric as MLflow's pages show it, and its interval beside it."""
    tags = {METRIC + name: repr(float(value))}
    if isinstance(value, Measured):
        tags[INTERVAL + name] = json.dumps(
            {"low": value.low, "high": value.high, "on": value.on[:1000]}
        )
    return tags


def _metric(value: str, interval: str | None) -> float:
    return Measured(float(value), **json.loads(interval)) if interval else float(value)


def _pages(search: Any, words: str | None) -> list[Any]:
    """All that a search of MLflow finds, page by page."""
    found: list[Any] = []
    token = None
    while True:
        page = search(filter_string=words, max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found
