"""The display of an import: one live line on a terminal, nothing elsewhere; the engines' noise unseen."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from genloom_platform.data.imports import Progress as State


class ImportDisplay:
    """Shows how far an import is, its rate, and how long it will take."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} %"),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._phase = ""

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task("opening", total=None, figures="")
        return self

    def show(self, state: State) -> None:
        """The import has come further."""
        if state.phase != self._phase:
            self._phase = state.phase
            self._progress.reset(self._task, total=state.total, description=state.phase)
        task = self._progress.tasks[0]
        rate = (
            f", {state.rows / task.elapsed:,.0f} rows/s"
            if task.elapsed and state.phase == "reading"
            else ""
        )
        aside = f", {state.left_out:,} left out" if state.left_out else ""
        self._progress.update(
            self._task,
            completed=state.done,
            total=state.total,
            figures=f"{state.rows:,} rows{rate}{aside}",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
