"""A registered model as something that can be called."""

import genloom
from genloom_platform.models import release
from genloom_platform.models.registry import Registry, Version
from genloom_platform.store import Store


def load(store: Store, reference: str) -> genloom.LoadedModel:
    """The model of `name`, `name@number` or `name@alias`.

    Raises:
        UnknownName: There is no such model, version or alias.
        PluginError: Its plugin is not installed.
        DataError: Its weights are missing or corrupt.
    """
    return load_version(store, Registry(store).find(reference))


def load_version(store: Store, version: Version) -> genloom.LoadedModel:
    """The model of a version that was looked up."""
    trainable, module, data = release.load(store, version.release)
    return genloom.LoadedModel(version.full_name, trainable, module, data)
