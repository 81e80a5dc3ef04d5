"""Deleting a version: only what nothing uses, and for good."""

import pytest
import registering

from genloom.errors import RequestError, UnknownName
from genloom_platform.models import aliases, release, removal
from genloom_platform.models.registry import Registry
from genloom_platform.serve import presence
from genloom_platform.serve.presence import Announcement

NAME = "image-classifier"


def test_a_version_is_deleted_for_good(versions, store):
    first, second = versions.make(), versions.make()
    removal.delete(store, f"{NAME}@2")
    assert store.names(f"models/{NAME}") == [first.run]
    with pytest.raises(UnknownName):
        Registry(store).find(f"{NAME}@2")
    removal.delete(store, NAME)
    assert Registry(store).names() == []
    assert versions.make().number == 3
    assert second.number == 2


def test_what_an_alias_names_stays(versions, store):
    versions.make()
    aliases.promote(store, NAME)
    with pytest.raises(RequestError, match="it is @champion, so promote another first"):
        removal.delete(store, NAME)
    aliases.retire(store, NAME, "champion")
    removal.delete(store, NAME)


def test_what_another_version_was_made_from_stays(versions, store):
    parent, child = versions.make(), versions.make()
    finetuned = child.release.model_copy(update={"parent": parent.full_name})
    store.write(f"{child.place}/{release.DESCRIPTION}", finetuned.model_dump_json().encode())
    with pytest.raises(RequestError, match=f"{NAME}@2 was finetuned from it"):
        removal.delete(store, f"{NAME}@1")
    built = child.release.model_copy(update={"generator": {"name": "x", "codec": parent.full_name}})
    store.write(f"{child.place}/{release.DESCRIPTION}", built.model_dump_json().encode())
    with pytest.raises(RequestError, match=f"{NAME}@2 is built on it"):
        removal.delete(store, f"{NAME}@1")
    removal.delete(store, f"{NAME}@2")
    removal.delete(store, f"{NAME}@1")


def test_what_an_endpoint_serves_stays_until_its_record_lapses(versions, store, monkeypatch):
    version = versions.make()
    said = Announcement(store=store.url, url="http://127.0.0.1:8000", models=(version.full_name,))
    renewing = presence.announce(said)
    registering.await_file(store, "endpoints/*.json")
    with pytest.raises(RequestError, match=r"http://127\.0\.0\.1:8000 on .* serves it"):
        removal.delete(store, NAME)
    renewing.end()
    monkeypatch.setattr(presence.lock, "LAPSE_S", 0)
    removal.delete(store, NAME)
    assert store.names("endpoints") == []
