"""What a person sees: tables, pairs, one line of complaint."""

import os
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Screen(Console):
    """The output, whose reader may go, as `head` does."""

    lasts = False
    """Whether a command goes on then, which others need: an endpoint. Else it ends, as writers to a pipe do."""

    def on_broken_pipe(self) -> None:
        """Nobody reads any more."""
        if not self.lasts:
            super().on_broken_pipe()
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = Screen(highlight=False, soft_wrap=True)
WIDE = 1 << 20
"""Columns where there is no terminal: whoever reads a pipe or a file wants each row on one line, and whole."""


def say(text: str) -> None:
    """One line of result."""
    console.print(Text(text))


def complain(text: str) -> None:
    """An error, on the error stream."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        Text.assemble(("error: ", "bold red"), text)
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], none: str) -> None:
    """Rows under headings, or a line that says there are none."""
    rows = list(rows)
    if not rows:
        say(none)
        return
    view = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        view.add_column(column, overflow="fold")
    for row in rows:
        view.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    _show(view)


def pairs(values: Iterable[tuple[str, object]]) -> None:
    """Names and values, one a line."""
    view = Table(box=None, pad_edge=False, show_header=False)
    view.add_column(style="dim")
    view.add_column(overflow="fold")
    for name, value in values:
        view.add_row(name, Text(str(value)))
    _show(view)


def _show(view: Table) -> None:
    """Print a table, folded to the terminal where there is one."""
    wide = console if console.is_terminal else Console(highlight=False, width=WIDE)
    wide.print(view, soft_wrap=False)


def numbers(metrics: dict[str, float]) -> str:
    """Metrics on one line, each with its interval where it has one: `accuracy 0.989 [0.974, 0.998]`."""
    from genloom_platform.evaluate.measured import shown

    return "  ".join(f"{name} {shown(value)}" for name, value in metrics.items())
