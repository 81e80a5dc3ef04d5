"""What is printed, where there is a terminal and where there is none."""

import io

import pytest
from rich.console import Console

from genloom_platform.cli import screen

NAME = "image-classifier-of-the-digits-" + "with-a-long-name-" * 8


def test_a_table_that_is_piped_has_each_row_on_one_line(capsys):
    screen.table(("run", "dataset", "model"), [(NAME, NAME, NAME), ("short", "digits", "")], "none")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["run", "dataset", "model"], [NAME, NAME, NAME], ["short", "digits"],
    ]  # fmt: skip


def test_pairs_that_are_piped_are_whole(capsys):
    screen.pairs([("run", NAME), ("logs", f"file:///{NAME}")])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["run", NAME], ["logs", f"file:///{NAME}"],
    ]  # fmt: skip


@pytest.mark.parametrize("width", [40, 80])
def test_a_table_on_a_terminal_is_folded_and_nothing_of_it_is_cut(monkeypatch, width):
    output = io.StringIO()
    terminal = Console(file=output, force_terminal=True, width=width, color_system=None, soft_wrap=True)
    monkeypatch.setattr(screen, "console", terminal)
    screen.table(("run",), [(NAME,)], "none")
    lines = output.getvalue().splitlines()[1:]
    assert max(map(len, lines)) <= width
    assert "".join(line.strip() for line in lines) == NAME
