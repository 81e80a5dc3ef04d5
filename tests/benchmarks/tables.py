"""How the benchmarks print: one table each, with what it was measured on below."""

import os
import platform
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *notes: str) -> None:
    """Print a table: its first column is words, the others are numbers."""
    table = Table(*columns, title=title, title_justify="left", title_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    console = Console(width=max(170, Console().width))
    console.print()
    console.print(table)
    for note in (
        *notes,
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
    ):
        console.print(note, style="dim", highlight=False)
