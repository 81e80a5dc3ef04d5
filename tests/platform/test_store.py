"""The store, on disk and on a real S3 server."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from genloom.errors import RequestError, StoreError
from genloom_platform.names import identifier
from genloom_platform.store import Store


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path):
    if request.param == "file":
        return Store(tmp_path.as_uri())
    return Store(f"{request.getfixturevalue('s3')}/{tmp_path.name}")


def test_files_go_in_and_come_out(store, tmp_path):
    store.write("a/b.bin", b"content")
    local = tmp_path / "local"
    local.write_bytes(b"x" * 5_000_000)
    size, digest = store.upload(local, "a/c/big")
    assert size == 5_000_000
    assert store.download("a/c/big", tmp_path / "back") == digest
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    assert store.read("a/b.bin") == b"content"
    assert store.names("a") == ["b.bin", "c"]
    assert store.names("nothing") == []
    assert store.exists("a/b.bin")
    assert not store.exists("a/c")
    with store.open("a/b.bin") as file:
        file.seek(3)
        assert file.read() == b"tent"


def test_writing_again_replaces(store):
    store.write_json("x.json", {"a": 1})
    store.write_json("x.json", {"a": 2})
    assert store.read_json("x.json") == {"a": 2}


def test_deleting_a_folder_takes_all_of_it_and_nothing_else(store):
    store.write("a/b/c", b"1")
    store.write("ab", b"2")
    store.delete("a")
    store.delete("never")
    assert store.names("a") == []
    assert store.read("ab") == b"2"


def test_others_may_come_and_go_while_a_folder_is_listed_and_cleared(tmp_path):
    store = Store(tmp_path.as_uri())
    done = threading.Event()

    def come_and_go():
        while not done.is_set():
            store.write("a/b/c", b"1")
            store.delete("a")

    with ThreadPoolExecutor() as others:
        other = others.submit(come_and_go)
        try:
            for _ in range(3000):
                assert store.names("a") in ([], ["b"])
                assert all(name.startswith("b/c") for name in store.sizes("a"))
                store.remove("a/b/c")
        finally:
            done.set()
        other.result()


def test_a_missing_file_is_told_as_such(store):
    with pytest.raises(FileNotFoundError):
        store.read("nothing")


def test_a_store_travels_to_other_processes(store):
    store.write("a", b"1")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"1"


def test_a_store_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*check the store's address"):
        Store((tmp_path / "file" / "store").as_uri()).check_writable()


def test_a_missing_bucket_and_a_wrong_key_are_one_clear_error(s3, monkeypatch):
    with pytest.raises(StoreError, match="cannot write s3://nowhere/x/"):
        Store("s3://nowhere/x").check_writable()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "0" * 40)
    with pytest.raises(StoreError, match="cannot write"):
        Store(s3).check_writable()


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    store = Store(tmp_path.as_uri())
    store.write("a", b"old")
    with pytest.raises(TypeError):
        store.write("a", "no bytes")  # type: ignore[arg-type]
    assert store.read("a") == b"old"
    assert store.names("") == ["a"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".x", "A", "a..b", "x" * 101, "a b"])
def test_names_are_identifiers_and_never_paths(name):
    with pytest.raises(RequestError, match="is no name for a dataset"):
        identifier("dataset", name)


@pytest.mark.parametrize("url", ["http://x/y", "s3://", "ftp://x"])
def test_other_addresses_are_refused(url):
    with pytest.raises(RequestError, match="neither file"):
        Store(url)
