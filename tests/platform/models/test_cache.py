"""Weights of a store elsewhere: fetched once, verified, and fetched again where the copy is damaged."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from genloom.errors import DataError
from genloom_platform.models import cache
from genloom_platform.store import Store

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATH = "models/x/y/model.safetensors"


class Counted(Store):
    """A store that counts what is fetched from it."""

    fetched = 0

    def download(self, relative, local):
        self.fetched += 1
        return super().download(relative, local)


@pytest.fixture
def store(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    store = Counted(f"{s3}/cache-{tmp_path.name.replace('_', '-')}")
    store.write(PATH, CONTENT)
    return store


def test_many_who_ask_at_once_fetch_once(store):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: cache.local(store, PATH, SHA256), range(8)))
    assert store.fetched == 1
    store.remove(PATH)
    found.add(cache.local(store, PATH, SHA256))
    (path,) = found
    assert path.read_bytes() == CONTENT


def test_a_damaged_copy_is_fetched_again_and_damaged_weights_are_refused(store):
    path = cache.local(store, PATH, SHA256)
    path.write_bytes(CONTENT[:-1] + b"?")
    assert cache.local(store, PATH, SHA256).read_bytes() == CONTENT
    with pytest.raises(DataError, match="are corrupt"):
        cache.local(store, PATH, "0" * 64)
    store.remove(PATH)
    path.unlink()
    with pytest.raises(DataError, match="are gone"):
        cache.local(store, PATH, SHA256)


def test_what_nobody_read_for_long_goes_when_others_come(store):
    old = cache.cache_folder() / "old.safetensors"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    os.utime(old, (0, 0))
    cache.local(store, PATH, SHA256)
    assert not old.exists()


def test_weights_of_a_store_on_this_machine_stay_where_they_are(tmp_path):
    store = Store(tmp_path.as_uri())
    store.write(PATH, CONTENT)
    assert cache.local(store, PATH, SHA256) == tmp_path / PATH
    with pytest.raises(DataError, match="are corrupt"):
        cache.local(store, PATH, "0" * 64)
    with pytest.raises(DataError, match="are gone"):
        cache.local(store, "models/x/z/model.safetensors", SHA256)
