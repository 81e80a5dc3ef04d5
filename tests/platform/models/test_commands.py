"""`genloom models …` as a person types it, and what is said where the request is wrong."""

import json
import os
import signal
import sqlite3
from types import SimpleNamespace

import pytest

from genloom_platform.cli.app import main

NAME = "image-classifier"


@pytest.fixture
def models(three, capsys, monkeypatch):
    """Run `genloom models …` on three versions, in this process: MLflow takes seconds to import."""

    def run(*words):
        monkeypatch.setattr("sys.argv", ["genloom", "--store", three.url, "models", *map(str, words)])
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        said = capsys.readouterr()
        return SimpleNamespace(returncode=status, stdout=said.out, stderr=said.err)

    yield run
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.pop("GENLOOM_STORE", None)


def test_a_version_is_promoted_compared_and_shown(models, tmp_path):
    assert "image-classifier@champion is version 2 now" in models("promote", f"{NAME}@2").stdout
    assert "is version 2 now" in models("promote", f"{NAME}@2", "staging", "--expect", "0").stdout
    shown = models("show", f"{NAME}@champion").stdout
    assert "accuracy 0.2" in shown
    assert "nothing → version 2 (promote) by" in " ".join(shown.split())
    known = json.loads(models("show", NAME, "--json").stdout)
    assert (known["number"], known["metrics"]["accuracy"]["value"]) == (3, 0.3)
    compared = models("compare", f"{NAME}@1", f"{NAME}@3").stdout
    assert "+0.2" in compared
    assert "no setting differs" in compared
    assert models("card", NAME, "--out", tmp_path / "card.html").returncode == 0
    assert "<h1>image-classifier@3</h1>" in (tmp_path / "card.html").read_text()


@pytest.mark.parametrize(("words", "messages"), [
    (["show", "image-clasifier"], ["did you mean 'image-classifier'"]),
    (["show", NAME, "--card", "--json"], ["give one of"]),
    (["promote", f"{NAME}@9"], ["named '9'; there are 1, 2, 3"]),
    (["promote", f"{NAME}@1", "V1"], ["'V1' is no alias"]),
    (["promote", f"{NAME}@1", "--expect", "2"], ["names nothing, not version 2 as expected"]),
    (["rollback", NAME], ["no alias of 'image-classifier' named 'champion'"]),
    (["tag", NAME], ["give tags"]),
    (["tag", NAME, "team"], ["'team' is no tag"]),
    (["export", NAME, "/nowhere/x.zip"], ["there is no folder /nowhere"]),
    (["import", "/nowhere/x.zip"], ["there is no file /nowhere/x.zip"]),
    (["delete", f"{NAME}@7"], ["named '7'"]),
    (["compare", NAME, "x"], ["there is no model 'x'"]),
])  # fmt: skip
def test_a_wrong_request_exits_with_2_and_changes_nothing(three, models, words, messages):
    before = {path: size for path, size in three.sizes("").items() if "mlflow" not in path}
    done = models(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    said = " ".join(done.stderr.split())
    assert all(message in said for message in messages), said
    assert before == {path: size for path, size in three.sizes("").items() if "mlflow" not in path}


def test_a_registry_of_a_newer_mlflow_exits_with_1(three, models):
    with sqlite3.connect(f"{three.folder}/mlflow.db") as connection:
        connection.execute("update alembic_version set version_num = 'ffff'")
    done = models("list")
    assert done.returncode == 1
    assert "of a newer MLflow than this one" in done.stderr
