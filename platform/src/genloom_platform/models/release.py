"""A release: a model's weights as safetensors, and all that is needed to use and to trace them.

models/<name>/<run>/model.safetensors
models/<name>/<run>/model.json          written last

The weights are a model's own, or those of an adapter, which are added to its base's when it is loaded.
"""

import datetime
import json
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import genloom
from genloom import registry
from genloom.data import Column, Facts
from genloom.errors import ContractMismatch, DataError, PluginError, UnknownName
from genloom_platform.config import RunConfig
from genloom_platform.data.manifest import Manifest
from genloom_platform.models import adapter as adapters
from genloom_platform.models import cache, inheritance, mapped
from genloom_platform.models.adapter import Adapter
from genloom_platform.names import identifier
from genloom_platform.store import Store

if TYPE_CHECKING:
    from torch import Tensor

    from genloom_platform.models.start import Start

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"
MAX_UNFITTING = 300
"""Characters of what does not fit that are told."""


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
    adapter: Adapter | None = None
    """What its weights are added to, where they are an adapter's."""
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
            ContractMismatch: The installed one is written for another contract; says which to install.
        """
        config = {key: value for key, value in self.generator.items() if key != "name"}
        needs = f"the model {self.name} needs {self.generator['name']!r} of {self.package} "
        try:
            installed = registry.load(self.generator["name"]).contract
        except UnknownName as error:
            raise PluginError(
                f"{needs}{self.package_version}, which is not installed; pip install {self.package}"
            ) from error
        if installed.partition(".")[0] != self.contract.partition(".")[0]:
            raise ContractMismatch(
                f"{needs}for contract {self.contract}, and the one installed is written for {installed}; "
                f"pip install {self.package}=={self.package_version}"
            )
        return registry.create(self.generator["name"], config)


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


def export(
    store: Store,
    run: str,
    config: RunConfig,
    module: Any,
    manifest: Manifest,
    start: "Start | None" = None,
) -> None:
    """Write the weights of a run's module, and their description.

    Args:
        store: Where to.
        run: The run's name.
        config: The run.
        module: Its trained module.
        manifest: Of the dataset that it was trained on.
        start: What it started with, where it was finetuned.
    """
    assert bool(start) == bool(config.finetune), "what a finetune makes is told by what it started with"
    plugin = registry.find(config.generator_name)
    place = f"models/{identifier('model', config.model_name)}/{run}"
    lora = config.finetune.lora if config.finetune else None
    with tempfile.TemporaryDirectory(prefix="genloom-export-") as scratch:
        local = Path(scratch) / WEIGHTS
        with _apart(module):
            _save(module, local, start if lora else None)
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
        parent=start.parent if start else None,
        adapter=Adapter(
            rank=lora.rank,
            alpha=lora.scale,
            targets=start.targets,
            base=start.place,
            base_sha256=start.sha256,
        )
        if lora and start
        else None,
        step=config.steps,
        weights_sha256=sha256,
        weights_bytes=size_bytes,
        platform=version("genloom-platform"),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    store.write(f"{place}/{DESCRIPTION}", release.model_dump_json(indent=1).encode())


def _save(module: Any, local: Path, start: "Start | None") -> None:
    """Write a module's weights; of one with adapters, what its base does not have."""
    from safetensors.torch import save_file, save_model

    if start is None:
        save_model(module, str(local))
        return
    state: dict[str, Any] = module.state_dict()
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    kept = adapters.own_names(module) | {each.name for each in start.renewed}
    kept |= state.keys() - parameters  # buffers are small, and a loss may have changed them
    save_file({name: state[name].contiguous() for name in sorted(kept)}, local)


def read(store: Store, place: str) -> Release:
    """The description of a release in a folder of the store."""
    try:
        return Release.model_validate_json(store.read(f"{place}/{DESCRIPTION}"))
    except FileNotFoundError as error:
        raise DataError(f"the model's files {store.url}/{place} are missing; train it again") from error


def load(store: Store, release: Release) -> tuple[genloom.Trainable, Any, Any]:
    """A release as (generator, module in evaluation mode, facts of its dataset).

    An adapter is merged into its base: the module is a plain one.

    Raises:
        DataError: The weights are not those that were released, or an adapter's base is another.
        PluginError: The installed package builds another network than the one that the weights are of.
    """
    trainable = release.trainable()
    data = trainable.Data.model_validate(dict(release.columns))
    module = trainable.build(data)
    if release.adapter:
        compose(store, release, module)
        adapters.merge(module)
        return trainable, module.eval(), data
    local = cache.local(store, f"{release.path}/{WEIGHTS}", release.weights_sha256)
    try:
        mapped.give(module, local)
    except RuntimeError as error:
        raise _unfitting(release, error) from error
    return trainable, module.eval(), data


def _unfitting(release: Release, error: RuntimeError) -> PluginError:
    """What is said where weights fit no longer: torch lists all that is missing, too much or of another shape."""
    installed = registry.find(release.generator["name"]).version
    what = " ".join(str(error).partition("\n")[2].split()) or str(error)
    short = what if len(what) <= MAX_UNFITTING else f"{what[:MAX_UNFITTING]}…"
    return PluginError(
        f"the weights of {release.name} were made with {release.package} {release.package_version}, and do "
        f"not fit the network that the installed {release.package} {installed} builds ({short}); "
        f"pip install {release.package}=={release.package_version}, or train it again"
    )


def compose(store: Store, release: Release, module: Any) -> None:
    """Give a module that was just built its base's weights, and the adapters beside them.

    Raises:
        DataError: The base is not the one that the adapter was made for, or either is damaged.
    """
    import torch

    made = release.adapter
    assert made
    base = read(store, made.base)
    if base.weights_sha256 != made.base_sha256:
        raise DataError(
            f"{release.path} is an adapter of {release.parent} with the weights of SHA-256 "
            f"{made.base_sha256}, and {base.path} has those of {base.weights_sha256}; bring back the base that "
            f"it was made for, or finetune this one"
        )
    own = _weights_of(store, release)
    inheritance.fill(module, {**weights(store, base), **own})
    adapters.inject(module, made.rank, made.alpha, made.targets)
    state: dict[str, Any] = module.state_dict()
    with torch.no_grad():
        for name in adapters.own_names(module):
            state[name].copy_(own[name])


def weights(store: Store, release: Release) -> "dict[str, Tensor]":
    """A model's weights by name, an adapter's added to its base's; raises as `load` does."""
    if release.adapter:
        state: dict[str, Tensor] = load(store, release)[1].state_dict()
        return state
    return _weights_of(store, release)


def _weights_of(store: Store, release: Release) -> "dict[str, Tensor]":
    """The tensors of a release's own file, mapped from this machine's disk."""
    from safetensors.torch import load_file

    path = f"{release.path}/{WEIGHTS}"
    return load_file(cache.local(store, path, release.weights_sha256))


def shapes(store: Store, release: Release) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights by name, without reading the weights.

    Raises:
        DataError: They are gone, or are not what was released.
    """
    path = f"{release.path}/{WEIGHTS}"
    try:
        with store.open(path) as file:
            size_bytes = min(int.from_bytes(file.read(8), "little"), release.weights_bytes)
            header = json.loads(file.read(size_bytes))
    except FileNotFoundError as error:
        raise cache.gone(store, path) from error
    except ValueError as error:
        raise cache.corrupt(store, path) from error
    found = {name: tuple(each["shape"]) for name, each in header.items() if name != "__metadata__"}
    if release.adapter:
        layers = tuple(f"{target}.lora_" for target in release.adapter.targets)
        own = {name: shape for name, shape in found.items() if not name.startswith(layers)}
        return {**shapes(store, read(store, release.adapter.base)), **own}
    return found
