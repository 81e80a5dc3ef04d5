"""The registry: names, versions and aliases of released models, in MLflow's database.

MLflow keeps the names; the files are the store's. So any MLflow page or client shows the models.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from genloom.errors import RequestError, UnknownName
from genloom_platform.models import release as releases
from genloom_platform.models.database import Client, experiment
from genloom_platform.models.release import Release
from genloom_platform.store import Store, identifier


@dataclass(frozen=True)
class Version:
    """A registered version of a model."""

    name: str
    number: int
    aliases: tuple[str, ...]
    release: Release
    metrics: dict[str, float]
    """What its evaluation gave, by name."""

    @property
    def full_name(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.number}"


class Registry:
    """The models of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @cached_property
    def client(self) -> Client:
        """MLflow's client, made when it is first needed: it takes seconds to import."""
        return Client(self.store)

    def experiment(self) -> str:
        """The id of MLflow's experiment that runs are recorded in; its artifacts lie in the store."""
        return experiment(self.client, self.store)

    def register(self, release: Release, metrics: dict[str, float], run_id: str | None) -> Version:
        """Give released weights the next version number of their name."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(release.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {"place": release.path, "run": release.run, "dataset": release.dataset}
        tags |= {"parent": release.parent} if release.parent else {}
        tags |= {f"metric.{name}": repr(value) for name, value in metrics.items()}
        made = self.client.create_model_version(
            release.name, source=f"{self.store.url}/{release.path}", run_id=run_id, tags=tags
        )
        return self._version(made)

    def set_metrics(self, version: Version, metrics: dict[str, float]) -> None:
        """Record what an evaluation gave."""
        for name, value in metrics.items():
            self.client.set_model_version_tag(
                version.name, str(version.number), f"metric.{name}", repr(value)
            )

    def names(self) -> list[str]:
        """The names of all models, sorted."""
        return sorted(model.name for model in self.client.search_registered_models(max_results=1000))

    def versions(self, name: str | None = None) -> list[Version]:
        """The versions of one model, or of all, the newest first."""
        names = [name] if name else self.names()
        found: list[Version] = []
        for each in names:
            rows = self.client.search_model_versions(f"name = '{identifier('model', each)}'")
            numbers = sorted((int(row.version) for row in rows), reverse=True)
            found += [self._version(self.client.get_model_version(each, str(n))) for n in numbers]
        return found

    def find(self, reference: str) -> Version:
        """A version by `name` (its newest), `name@number` or `name@alias`.

        Raises:
            UnknownName: There is no such model, version or alias.
        """
        from mlflow.exceptions import MlflowException

        name, _, which = reference.partition("@")
        names = self.names()
        if name not in names:
            raise UnknownName("model", name, names, "genloom models list shows them")
        try:
            if which and not which.isdigit():
                return self._version(self.client.get_model_version_by_alias(name, which))
            if which:
                return self._version(self.client.get_model_version(name, which))
        except MlflowException as error:
            known = [str(v.number) for v in self.versions(name)]
            known += [alias for v in self.versions(name) for alias in v.aliases]
            raise UnknownName(f"version or alias of {name!r} named", which, known) from error
        return self.versions(name)[0]

    def promote(self, version: Version, alias: str) -> None:
        """Let an alias name a version; it names no other any more."""
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,49}", alias) or re.fullmatch(r"v\d+|latest", alias):
            raise RequestError(
                f"{alias!r} is no alias: give lower-case letters, digits and -, starting with a letter, "
                f"not 'latest' or a version such as v1"
            )
        self.client.set_registered_model_alias(version.name, alias, str(version.number))

    def _version(self, row: Any) -> Version:
        metrics = {
            name.removeprefix("metric."): float(value)
            for name, value in row.tags.items()
            if name.startswith("metric.")
        }
        release = releases.read(self.store, row.tags["place"])
        return Version(row.name, int(row.version), tuple(row.aliases), release, metrics)
