"""A release: a model's weights as safetensors, and all that is needed to use and to trace them.

models/<name>/<run>/model.safetensors
models/<name>/<run>/model.json          written last
"""

import datetime
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import genloom
from genloom import registry
from genloom.data import Column, Facts
from genloom.errors import DataError, PluginError, UnknownName
from genloom_platform.config import RunConfig
from genloom_platform.data.manifest import Manifest
from genloom_platform.store import Store, identifier

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


class Release(Facts):
    """What is known of released weights."""

    name: str
    """The name under which the model is registered."""
    generator: dict[str, Any]
    """The generator's name and its fields."""
    package: str
    """The distribution that brought the generator."""
    package_version: str
    contract: str
    columns: dict[str, Column]
    """The facts of the dataset that it was trained on."""
    dataset: str
    """`name@version` of that dataset."""
    dataset_digest: str
    run: str
    parent: str | None = None
    """`name@version` of the model that it was finetuned from."""
    step: int
    weights_sha256: str
    weights_bytes: int
    platform: str
    """The platform's version."""
    created_at: str

    @property
    def path(self) -> str:
        """The release's folder in the store."""
        return f"models/{self.name}/{self.run}"

    def trainable(self) -> genloom.Trainable:
        """The generator as it was configured.

        Raises:
            PluginError: Its package is not installed; says which to install.
        """
        config = {key: value for key, value in self.generator.items() if key != "name"}
        try:
            return registry.create(self.generator["name"], config)
        except UnknownName as error:
            raise PluginError(
                f"the model {self.name} needs {self.generator['name']!r} of {self.package} "
                f"{self.package_version}, which is not installed; pip install {self.package}"
            ) from error


@contextmanager
def _apart(module: Any) -> Generator[None]:
    """Give each parameter memory of its own: under ZeRO all lie in one buffer, which looks like tied weights."""
    kept = [(parameter, parameter.data) for parameter in module.parameters()]
    for parameter, data in kept:
        parameter.data = data.detach().to("cpu", copy=True)
    try:
        yield
    finally:
        for parameter, data in kept:
            parameter.data = data


def export(store: Store, run: str, config: RunConfig, module: Any, manifest: Manifest) -> None:
    """Write the weights of a run's module, and their description."""
    from safetensors.torch import save_model

    plugin = registry.find(config.generator_name)
    place = f"models/{identifier('model', config.model_name)}/{run}"
    with tempfile.TemporaryDirectory(prefix="genloom-export-") as scratch:
        local = Path(scratch) / WEIGHTS
        with _apart(module):
            save_model(module, str(local))
        size_bytes, sha256 = store.upload(local, f"{place}/{WEIGHTS}")
    release = Release(
        name=config.model_name,
        generator=config.generator,
        package=plugin.package,
        package_version=plugin.version,
        contract=registry.load(config.generator_name).contract,
        columns=manifest.columns,
        dataset=manifest.full_name,
        dataset_digest=manifest.digest,
        run=run,
        step=config.steps,
        weights_sha256=sha256,
        weights_bytes=size_bytes,
        platform=version("genloom-platform"),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    store.write(f"{place}/{DESCRIPTION}", release.model_dump_json(indent=1).encode())


def read(store: Store, place: str) -> Release:
    """The description of a release in a folder of the store."""
    try:
        return Release.model_validate_json(store.read(f"{place}/{DESCRIPTION}"))
    except FileNotFoundError as error:
        raise DataError(f"the model's files {store.url}/{place} are missing; train it again") from error


def load(store: Store, release: Release) -> tuple[genloom.Trainable, Any, Any]:
    """A release as (generator, module in evaluation mode, facts of its dataset).

    Raises:
        DataError: The weights are not those that were released.
    """
    from safetensors.torch import load_model

    trainable = release.trainable()
    data = trainable.Data.model_validate(dict(release.columns))
    module = trainable.build(data)
    with tempfile.TemporaryDirectory(prefix="genloom-model-") as scratch:
        local = Path(scratch) / WEIGHTS
        if store.download(f"{release.path}/{WEIGHTS}", local) != release.weights_sha256:
            raise DataError(
                f"the weights {store.url}/{release.path}/{WEIGHTS} are corrupt; train it again"
            )
        load_model(module, local)
    return trainable, module.eval(), data
