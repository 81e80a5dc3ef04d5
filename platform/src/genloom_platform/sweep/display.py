"""The display of a sweep: a live table of the best trials on a terminal, a few plain lines elsewhere.

While it is shown, whatever the engines print in this process goes to the sweep's `driver.log`.
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
from rich.table import Table
from rich.text import Text

from genloom_platform.store import Store
from genloom_platform.sweep import ranking, records
from genloom_platform.sweep.plan import Plan
from genloom_platform.sweep.records import Sweep, Trial
from genloom_platform.sweep.settings import SweepConfig
from genloom_platform.sweep.watch import Watch

SHOWN = 10
"""Trials in the live table."""
PLAIN_LINES = 5
REFRESH_HZ = 2


class SweepDisplay:
    """Shows a sweep; a context that keeps the terminal for itself."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sweep: Sweep | None = None
        self._plan: Plan | None = None
        self._watch: Watch | None = None
        self._known = 0
        self._shown = 0

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
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._view,
                refresh_per_second=REFRESH_HZ,
                transient=True,
            )
            self._live.start()
        return self

    def start(self, sweep: Sweep, plan: Plan, known: list[Trial]) -> None:
        """A sweep begins, or goes on."""
        self._sweep, self._plan = sweep, plan
        config = plan.config
        self._known = sum(trial.ended for trial in known)
        again = f", {self._known} of them done before" if self._known else ""
        how = (
            config.search
            if config.scheduler.name == "none"
            else f"{config.search}, {config.scheduler.name}"
        )
        self._console.print(
            f"sweep {sweep.name}: {plan.trials} trials of {plan.base.generator_name} on {plan.base.data}, "
            f"{plan.steps:,} steps ({how}){again}"
        )

    def event(self, message: str) -> None:
        """Something has happened."""
        self._console.print(f"  {message}")

    def change(self, watch: Watch) -> None:
        """A trial has come further."""
        self._watch = watch
        assert self._plan
        ended = sum(trial.ended for trial in watch.trials.values())
        if self._live is None and ended * PLAIN_LINES // self._plan.trials > self._shown:
            self._shown = ended * PLAIN_LINES // self._plan.trials
            self._console.print(f"  {self._summary(watch, ended)}")

    def _summary(self, watch: Watch, ended: int) -> str:
        assert self._plan
        plan, trials = self._plan, list(watch.trials.values())
        ranked = ranking.ranked(trials, plan.config)
        best = ""
        if ranked:
            values = "  ".join(f"{m} {ranked[0].metrics[m]:.4g}" for m in plan.config.metrics)
            best = f"  best {values} (trial {ranked[0].number})"
        elapsed = time.monotonic() - watch.begun_at
        left = left_s(plan, trials, self._known, elapsed)
        eta = f"  about {_time(left)} left" if left is not None and ended < plan.trials else ""
        running = sum(not trial.ended for trial in trials)
        stopped = sum(trial.state == "stopped" for trial in trials)
        counts = f"{ended}/{plan.trials} trials, {stopped} stopped early, {running} under way"
        return f"{counts}{best}  {_time(elapsed)}{eta}"

    def _view(self) -> Group | Text:
        """The table of the best, as it stands."""
        watch, plan = self._watch, self._plan
        if not watch or not plan:
            return Text("starting", style="dim")
        config = plan.config
        view = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("trial", *config.metrics, *config.space, "step", ""):
            view.add_column(column)
        trials = list(watch.trials.values())
        for trial in ranking.ranked(trials, config)[:SHOWN]:
            view.add_row(
                *cells(trial, config),
                f"{trial.step:,}",
                Text({"running": "…", "finished": "full"}.get(trial.state, trial.state), style="dim"),
            )
        return Group(
            view, Text(self._summary(watch, sum(trial.ended for trial in trials)), style="dim")
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, copy in self._kept:
            os.dup2(copy, stream)
            os.close(copy)
        self._terminal.close()
        self._noise.close()
        noise = Path(self._noise.name)
        if self._sweep and noise.stat().st_size:
            self._store.upload(noise, f"{records.folder(self._sweep.name)}/driver.log")
        noise.unlink()


def cells(trial: Trial, config: SweepConfig) -> list[str]:
    """A trial's number, its metrics and its values, as a table shows them."""
    values = [trial.metrics.get(metric) for metric in config.metrics]
    values += [trial.params.get(key) for key in config.space]
    return [str(trial.number), *map(_value, values)]


def left_s(plan: Plan, trials: list[Trial], known: int, elapsed_s: float) -> float | None:
    """Seconds that are left, from the steps that were done; None before the first trial of this time has ended.

    A trial yet to come is taken to train as long as those that ended did, on average.
    """
    ended = [trial.step for trial in trials if trial.ended]
    if len(ended) <= known:
        return None
    usual = sum(ended) / len(ended)
    fresh = sorted((t for t in trials if t.ended), key=lambda trial: trial.place)[known:]
    running = [trial.step for trial in trials if not trial.ended]
    done = sum(trial.step for trial in fresh) + sum(running)
    left = usual * (plan.trials - len(trials)) + sum(max(0.0, usual - step) for step in running)
    return elapsed_s * left / done if done else None


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _value(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
