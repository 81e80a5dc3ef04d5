"""Aliases: they move one at a time, whoever moves them is told of the others, and they move back."""

import multiprocessing

import promoting
import pytest

from genloom.errors import RequestError, UnknownName
from genloom_platform.models import aliases
from genloom_platform.models.registry import Registry
from genloom_platform.store import Store

NAME = "image-classifier"


def champion(store):
    return Registry(store).find(f"{NAME}@champion").number


def test_an_alias_moves_and_is_rolled_back_step_by_step(three):
    for number in (1, 2, 3):
        assert aliases.promote(three, f"{NAME}@{number}").aliases == ("champion",)
    assert aliases.rollback(three, NAME).number == 2
    aliases.promote(three, f"{NAME}@3")
    assert aliases.rollback(three, NAME).number == 2
    assert aliases.rollback(three, NAME).number == 1
    with pytest.raises(RequestError, match="named no other version before"):
        aliases.rollback(three, NAME)
    assert champion(three) == 1
    moves = aliases.history(three, NAME, "champion")
    assert [move.after for move in moves] == [1, 2, 3, 2, 3, 2, 1]
    assert "version 2 → version 1 (rollback) by " in str(moves[-1])


def test_a_rollback_passes_deleted_versions_over_and_brings_a_retired_alias_back(three):
    for number in (1, 2, 3):
        aliases.promote(three, f"{NAME}@{number}")
    Registry(three).client.delete_model_version(NAME, "2")
    assert aliases.rollback(three, NAME).number == 1
    aliases.retire(three, NAME, "champion")
    with pytest.raises(UnknownName):
        champion(three)
    assert aliases.rollback(three, NAME).number == 1


def test_a_move_on_mlflows_pages_counts_as_one(three):
    aliases.promote(three, f"{NAME}@1")
    Registry(three).client.set_registered_model_alias(NAME, "champion", "3")
    made = aliases.history(three, NAME, "champion")[-1]
    three.write(
        f"aliases/{NAME}/champion/000001.json",
        made.model_copy(update={"at": "2026-01-01T00:00:00.000+00:00"}).model_dump_json().encode(),
    )
    aliases.promote(three, f"{NAME}@2")
    assert aliases.rollback(three, NAME).number == 3


def test_an_alias_that_names_another_version_than_expected_stays(three):
    aliases.promote(three, f"{NAME}@1", expected=0)
    with pytest.raises(
        RequestError, match=r"names version 1, not version 2 as expected; the last move"
    ):
        aliases.promote(three, f"{NAME}@3", expected=2)
    with pytest.raises(RequestError, match="names version 1, not nothing as expected"):
        aliases.promote(three, f"{NAME}@3", expected=0)
    assert champion(three) == 1
    aliases.promote(three, f"{NAME}@3", expected=1)
    assert champion(three) == 3


def test_of_two_who_promote_at_once_one_wins_and_the_other_is_told(three):
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(2), context.Queue()
    people = [
        context.Process(target=promoting.take_part, args=(three.url, f"{NAME}@{number}", gate, results))
        for number in (1, 2)
    ]
    for person in people:
        person.start()
    said = dict(results.get(timeout=120) for _ in people)
    for person in people:
        person.join()
    (won,) = [int(model[-1]) for model, words in said.items() if words == "won"]
    (told,) = [words for words in said.values() if words != "won"]
    assert "someone else moved" in told
    assert f"nothing → version {won} (promote)" in told
    assert champion(three) == won
    assert len(aliases.history(three, NAME, "champion")) == 1


def test_who_looked_before_another_moved_is_told(three, monkeypatch):
    """Two people whose moves cross, in a fixed order: each looks, then each moves."""
    looked = aliases.history(three, NAME, "champion")
    aliases.promote(three, f"{NAME}@1")
    monkeypatch.setattr(aliases, "history", once(looked, aliases.history))
    with pytest.raises(RequestError, match=r"someone else moved .*nothing → version 1 \(promote\)"):
        aliases.promote(three, f"{NAME}@2")
    assert champion(three) == 1


def once(first, then):
    answers = [first]

    def history(*words):
        return answers.pop() if answers else then(*words)

    return history


def test_a_move_that_mlflow_refuses_leaves_no_record(three, monkeypatch):
    aliases.promote(three, f"{NAME}@1")
    monkeypatch.setattr(aliases, "follow", lambda *words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        aliases.promote(three, f"{NAME}@2")
    assert len(aliases.history(three, NAME, "champion")) == 1


@pytest.mark.parametrize("alias", ["Champion", "3", "v2", "latest", "a b", "../x", ""])
def test_what_is_no_alias_is_refused(three, alias):
    with pytest.raises(RequestError, match="is no alias"):
        aliases.promote(three, f"{NAME}@1", alias)
    assert three.names("aliases") == []


def test_an_alias_that_there_never_was_cannot_be_moved(three):
    for move in (aliases.rollback, aliases.retire):
        with pytest.raises(UnknownName, match="no alias of 'image-classifier' named 'champoin'"):
            move(three, NAME, "champoin")


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_file_is_created_once(tmp_path, s3, kind):
    store = Store(f"{s3}/{tmp_path.name}" if kind == "s3" else tmp_path.as_uri())
    assert store.create("a/1.json", b"one")
    assert not store.create("a/1.json", b"two")
    assert store.read("a/1.json") == b"one"
    assert store.names("a") == ["1.json"]
