"""Stores with versions in them: made once, and copied for each test."""

import pytest
from registering import copy_of

from genloom_platform.data.imports import import_dataset
from genloom_platform.models.registry import Registry
from genloom_platform.store import Store


@pytest.fixture(scope="session")
def digits_and_registry(tmp_path_factory):
    """A folder store with the digits and an empty registry, to be copied."""
    store = Store((tmp_path_factory.mktemp("template") / "store").as_uri())
    import_dataset(store, "digits", None, None, {})
    Registry(store).experiment()
    return store.folder


@pytest.fixture(scope="session")
def three_versions(digits_and_registry, tmp_path_factory):
    """The same with three versions, to be copied."""
    made = copy_of(digits_and_registry, tmp_path_factory.mktemp("three"))
    for _ in range(3):
        made.make()
    return made.store.folder


@pytest.fixture
def three(three_versions, tmp_path):
    """A store of the test's own with three versions."""
    return copy_of(three_versions, tmp_path).store


@pytest.fixture
def versions(digits_and_registry, tmp_path):
    """A store of the test's own, with the digits and the means to make versions."""
    return copy_of(digits_and_registry, tmp_path)


@pytest.fixture
def store(versions):
    return versions.store
