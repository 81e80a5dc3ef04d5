"""The display of a run: live on a terminal, a few plain lines elsewhere; the noise to a log.

While it is shown, whatever the engines print in this process goes to the run's `driver.log`.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from genloom_platform.data import manifest as manifests
from genloom_platform.store import Store
from genloom_platform.train.progress import Report, figures
from genloom_platform.train.runs import Run
from genloom_platform.units import duration, size

PLAIN_LINES = 4
"""Of a run whose display is no terminal, spread over its steps; those of a long one come beside them."""
FIRST_LINE_S, LAST_LINE_S = 30.0, 600.0
"""When a long run is told of besides: after so long, again after twice as long, and at last this often."""
START_LINES = 9
"""Lines that tell what a finetune starts with, at most."""


class Lines:
    """When a run is told of that nobody sees live: at each quarter, and so that nobody waits long for a sign."""

    def __init__(self, steps: int) -> None:
        self._steps, self._quarter, self._due_s = steps, 0, FIRST_LINE_S

    def due(self, step: int, elapsed_s: float) -> bool:
        """Whether a line is due now; it is then taken to be written."""
        quarter = step * PLAIN_LINES // self._steps
        if quarter <= self._quarter and elapsed_s < self._due_s:
            return False
        self._quarter = max(quarter, self._quarter)
        self._due_s = elapsed_s + min(max(elapsed_s, FIRST_LINE_S), LAST_LINE_S)
        return True


class Display:
    """Shows a run; a context that keeps the terminal for itself."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._run: Run | None = None
        self._last = ""

    def __enter__(self) -> Self:
        sys.stdout.flush()
        sys.stderr.flush()
        self._kept = [(stream, os.dup(stream)) for stream in (1, 2)]
        self._terminal = os.fdopen(os.dup(1), "w", buffering=1)
        self._noise = tempfile.NamedTemporaryFile(prefix="genloom-", suffix=".log", delete=False)
        for stream in (1, 2):
            os.dup2(self._noise.fileno(), stream)
        # Without markup: what libraries say of their failures has brackets in it, as [/usr/lib/….cc:553].
        self._console = Console(file=self._terminal, highlight=False, soft_wrap=True, markup=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._progress.add_task("starting", total=None, figures="")
        self._live = Live(self._progress, console=self._console, transient=True)
        if self._console.is_terminal:
            self._live.start()
        return self

    def start(self, run: Run, step: int) -> None:
        """A run begins, or goes on from a step."""
        self._run, self._begun = run, time.monotonic()
        self._lines, self._first = Lines(run.config.steps), (step, self._begun)
        self._epoch_rows = manifests.load(self._store, run.dataset).splits["train"]
        self._rounds = max(objective.repeats for objective in run.config.trainable().objectives())
        begins = f" from step {step:,}" if step else ""
        scale = run.config.scale
        workers = f"{scale.fewest} to {scale.most}" if scale.elastic else f"{scale.most}"
        self._console.print(
            f"run {run.name}: {run.config.generator_name} on {run.dataset}, {run.config.steps:,} steps, "
            f"{workers} worker{'s' if scale.most > 1 else ''}{begins}"
        )
        if run.start:
            lines = run.start.lines
            more = len(lines) - START_LINES
            tail = [f"and {more:,} more: genloom runs show {run.name}"] if more > 0 else []
            for line in [*lines[:START_LINES], *tail]:
                self.event(line)
        self._progress.update(
            self._task, description="starting the workers", total=run.config.steps, completed=step
        )

    def event(self, message: str) -> None:
        """The run has met something."""
        self._console.print(f"  {message}")

    def report(self, report: Report) -> None:
        """The workers have come further."""
        assert self._run
        steps = self._run.config.steps
        news = figures(report)
        self._progress.update(self._task, description="training", completed=report.step, figures=news)
        epoch = report.step * self._rounds * self._run.config.global_batch / self._epoch_rows
        self._last = f"epoch {epoch:.1f}, {details(report)}"
        self._live.update(Group(self._progress, Text(f"  {self._last}", style="dim")))
        now = time.monotonic()
        left_s = self._left_s(report.step, now)
        if not self._console.is_terminal and self._lines.due(report.step, now - self._begun):
            to_go = f", {duration(left_s)} to go" if left_s >= 1 else ""
            self._console.print(
                f"  step {report.step:,}/{steps:,}  {news}  {now - self._begun:.0f} s{to_go}"
            )

    def _left_s(self, step: int, now: float) -> float:
        """How long the steps that are left take at the pace since the first report; 0 before the second."""
        assert self._run
        first_step, first_at = self._first
        if first_at == self._begun:  # the start of the workers is no part of the pace
            self._first = (step, now)
            return 0.0
        return (self._run.config.steps - step) * (now - first_at) / max(step - first_step, 1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._last:
            self._console.print(f"  {self._last}")
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in self._kept:
            os.dup2(copy, stream)
            os.close(copy)
        self._terminal.close()
        self._noise.close()
        noise = Path(self._noise.name)
        if self._run and noise.stat().st_size:
            self._store.upload(noise, f"runs/{self._run.name}/logs/driver.log")
        noise.unlink()


def details(report: Report) -> str:
    """Where a step's time goes, what a worker holds, and how well the device is used."""
    step_s = sum(report.seconds.values())
    shares = ", ".join(
        f"{phase} {seconds / step_s:.0%}" for phase, seconds in report.seconds.items() if step_s
    )
    words = [f"step {step_s * 1000:,.1f} ms ({shares})"]
    words += [f"memory {size(report.memory_bytes)} a worker"] if report.memory_bytes else []
    words += [f"MFU {report.mfu:.1%}"] if report.mfu is not None else []
    return ", ".join(words)
