"""S3 that fails: the rows come out exactly, or one clear error does. A real server behind a proxy that breaks."""

import os
from collections import Counter

import numpy as np
import pytest
from faulty_s3 import FAULTS, FaultyS3

from genloom import Image
from genloom.errors import RequestError, StoreError
from genloom_platform.data import encoding, shards
from genloom_platform.data import manifest as manifests
from genloom_platform.data.imports import import_dataset
from genloom_platform.store import Store


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of noisy pictures, large enough that a shard takes several requests."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(60):
        image = Image(rng.integers(0, 256, (48, 48, 3), np.uint8))
        image.save(folder / f"{'ab'[number % 2]}" / f"{number}.png")
    return folder


@pytest.fixture
def proxy(s3, monkeypatch):
    made = []

    def start(broken):
        upstream = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        server = FaultyS3(upstream, broken)
        made.append(server)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        return server

    yield start
    for server in made:
        server.close()


def keys(store, manifest):
    found = Counter()
    for shard in manifest.shards:
        table = shards.read_chunks(
            store, manifest, shard, range(len(shard.chunks)), [*manifest.columns, encoding.KEY]
        )
        rows = zip(
            table.column(encoding.KEY).to_pylist(), table.column("image").to_pylist(), strict=True
        )
        found.update(rows)
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fifth_request_broken_still_gives_the_exact_rows(photos, s3, proxy, fault):
    clean = import_dataset(Store(f"{s3}/clean-{fault}"), "imagefolder", str(photos), "p", {})
    server = proxy(lambda method, path, number: fault if number % 5 == 1 else None)
    store = Store(f"{s3}/faulty-{fault}")
    manifest = import_dataset(store, "imagefolder", str(photos), "p", {})
    assert manifest.digest == clean.digest
    assert keys(store, manifest) == Counter(
        {
            (f"{'ab'[n % 2]}/{n}.png", (photos / f"{'ab'[n % 2]}" / f"{n}.png").read_bytes()): 1
            for n in range(60)
        }
    )
    assert server.injected[fault] > 2


@pytest.mark.parametrize("fault", ["500", "reset", "short"])
def test_a_shard_that_can_never_be_read_is_one_clear_error(photos, s3, proxy, fault, monkeypatch):
    import_dataset(Store(f"{s3}/dead-{fault}"), "imagefolder", str(photos), "p", {})
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    proxy(lambda method, path, number: fault if ".parquet" in path and method == "GET" else None)
    store = Store(f"{s3}/dead-{fault}")
    manifest = manifests.load(store, "p")
    with pytest.raises(
        StoreError, match=r"cannot read s3://bucket/team/dead.*(train|test)-00000.parquet"
    ):
        keys(store, manifest)


def test_a_source_that_dies_in_the_middle_leaves_no_dataset(photos, s3, proxy, monkeypatch):
    store = Store(f"{s3}/half")
    for file in photos.rglob("*.png"):
        store.write(f"photos/{file.parent.name}/{file.name}", file.read_bytes())
    seen = []

    def broken(method, path, number):
        if method == "GET" and path.endswith(".png"):
            seen.append(path)
            return "500" if len(seen) > 20 else None
        return None

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    proxy(broken)
    target = Store(f"{s3}/half-target")
    with pytest.raises(StoreError, match="cannot read"):
        import_dataset(target, "imagefolder", f"{s3}/half/photos", "p", {"bad_rows": "quarantine"})
    assert manifests.list_datasets(target) == []


def test_a_missing_bucket_and_forbidden_keys_are_told_apart(s3, monkeypatch, tmp_path):
    store = Store(tmp_path.as_uri())
    with pytest.raises(RequestError, match="does not exist"):
        import_dataset(store, "text", "s3://nowhere/text.txt", "t", {})
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0" * 40)
    with pytest.raises(StoreError, match="access is denied"):
        import_dataset(store, "text", f"{s3}/text.txt", "t", {})
