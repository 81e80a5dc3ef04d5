"""The command line as a whole: which words are its own."""

import signal
import sys

import pytest

from genloom.errors import UnknownName
from genloom_platform.cli import app


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda number, action: None)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["genloom", *words])
        app.main()

    return run


def test_debug_after_the_dashes_is_the_jobs(run, capsys):
    words = ("submit", "--cluster", "nowhere", "--", "train", "x", "--debug")
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == 2
    assert "there is no cluster 'nowhere'" in capsys.readouterr().err
    with pytest.raises(UnknownName):
        run("--debug", *words)
