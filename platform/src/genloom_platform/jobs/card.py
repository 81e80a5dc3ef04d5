"""A job as a notebook shows it: a card that changes while it is watched. What the cluster tells is escaped."""

import sys
import time
from collections.abc import Callable
from html import escape
from typing import Any

from genloom.errors import GenloomError
from genloom_platform.jobs.job import Job, State
from genloom_platform.units import duration

LINES = 8
"""The last lines of its log that a card shows."""
KEPT = 10_000
"""Characters of a log that is watched, whose end a card shows."""
COLOURS = {"running": "#1f77b4", "succeeded": "#2ca02c", "failed": "#d62728", "stopped": "#b8860b"}
"""Of the states; one that has not begun has the text's own."""


def html(job: Job) -> str:
    """A job's state and the end of its log; where they cannot be had, why."""
    try:
        state = job.state()
        return _card(job, state, "".join(job.logs()) if state.started else "")
    except GenloomError as error:
        return f"<p>job <b>{escape(job.id)}</b>: {escape(str(error))}</p>"


def watch(job: Job) -> None:
    """Show a job until it ends: in a notebook as a card that changes, elsewhere its log as it is written."""
    display = _notebook()
    if display is None:
        for text in job.logs(follow=True):
            sys.stdout.write(text)
            sys.stdout.flush()
        return
    log = ""
    shown = display(_Html(_card(job, job.state(), log)), display_id=True)
    for text in job.logs(follow=True):
        log = (log + text)[-KEPT:]
        shown.update(_Html(_card(job, job.state(), log)))
    shown.update(_Html(_card(job, job.wait(), log)))


class _Html:
    """What IPython shows as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text


def _notebook() -> Callable[..., Any] | None:
    """IPython's `display`, within a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display  # pyright: ignore[reportMissingImports]

    return display


def _card(job: Job, state: State, log: str) -> str:
    took = duration((state.ended or time.time()) - state.started) if state.started else "not started"
    colour = COLOURS.get(state.word, "inherit")
    head = (
        f'<b>{escape(job.id)}</b> on {escape(job.cluster.profile.name)}: <b style="color: {colour}">'
        f"{escape(state.word)}</b>, {escape(took)}"
    )
    lines = [line for line in log.splitlines() if line.strip()][-LINES:]
    end = "\n".join([*lines, *([state.message] if state.word == "failed" and not lines else [])])
    style = "margin: 0.4em 0 0; padding: 0; background: none; white-space: pre-wrap; opacity: 0.85"
    return (
        f'<div style="border-left: 3px solid {colour}; padding: 0.2em 0.8em"><div>{head}</div>'
        f"<div><code>{escape(state.command)}</code></div>"
        + (f'<pre style="{style}">{escape(end)}</pre>' if end else "")
        + "</div>"
    )
