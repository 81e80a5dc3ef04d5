"""What `--dry-run` prints: the resolved run as YAML, and what is known of it as comments below."""

import io
from collections.abc import Iterator
from dataclasses import fields

import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genloom_platform.cli.screen import console, say
from genloom_platform.train.memory import Memory
from genloom_platform.train.preview import Fit, Preview
from genloom_platform.units import duration, size

WORDS = {
    "master": "master weights",
    "optimizer": "optimizer state",
    "average": "averaged weights",
    "working": "for a moment",
    "checkpoint": "copy to be saved",
}
"""What `Memory`'s fields are called, where it is not their name."""
LEFT_OUT = "without communication, checkpoints, evaluation and waiting for data"


def show(seen: Preview) -> None:
    """Print it; what stands there is a YAML file from which the run can be started."""
    say(yaml.safe_dump(seen.config.model_dump(mode="json"), sort_keys=False).rstrip())
    for line in _lines(seen):
        console.print(Text(f"# {line}".rstrip(), style="" if line else "dim"))


def _lines(seen: Preview) -> Iterator[str]:
    yield f"parameters: {seen.parameters:,}"
    yield from seen.start.lines if seen.start else ()
    for name, shape in seen.shapes.items():
        yield f"batch[{name!r}]: {shape}"
    yield ""
    yield from _memory(seen)
    yield ""
    yield from _time(seen)
    if seen.advice:
        yield f"to fit: {seen.advice}"


def _memory(seen: Preview) -> Iterator[str]:
    """A column for each layout, a row for each kind of memory."""
    workers = f"each of {seen.workers} workers" if seen.workers > 1 else "the worker"
    yield f"memory of {workers}, by ZeRO stage (* as configured)"
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for fit in seen.fits:
        table.add_column(fit.layout.name + (" *" if fit.chosen else ""), justify="right")
    for field in fields(Memory):
        values = [getattr(fit.memory, field.name) for fit in seen.fits]
        if any(values):
            table.add_row(WORDS.get(field.name, field.name), *map(size, values))
    if any(fit.process_bytes for fit in seen.fits):
        table.add_row("process", *(size(fit.process_bytes) for fit in seen.fits))
    table.add_row("total", *(size(fit.total_bytes) for fit in seen.fits))
    if any(fit.host_bytes for fit in seen.fits):
        table.add_row("of the node's memory", *(size(fit.host_bytes) for fit in seen.fits))
    if seen.room:
        table.add_row(f"in {size(seen.room.size_bytes)}", *map(_verdict, seen.fits))
    yield from _text(table)
    if seen.room:
        yield f"room: {size(seen.room.size_bytes)} for a worker, of {seen.room.of}"
    if not seen.trial.activations_bytes:
        yield "activations were not measured, and come on top"


def _verdict(fit: Fit) -> str:
    return "fits" if fit.fits else "does not fit"


def _text(table: Table) -> list[str]:
    output = io.StringIO()
    Console(file=output, width=200, highlight=False).print(table)
    return [line.rstrip() for line in output.getvalue().splitlines()]


def _time(seen: Preview) -> Iterator[str]:
    trial, pace = seen.trial, seen.pace
    if trial.message:
        yield f"the trial ended early: {trial.message}"
    if not pace:
        yield "time: unknown, for no step of the trial was timed"
        return
    count = len(trial.steps_s)
    steps = f"{count} step{'s' if count > 1 else ''} of one worker's share on {trial.device}"
    yield f"trial: {steps}, {duration(pace.step_s)} each; {size(trial.peak_bytes)} memory at most"
    yield f"data: one CPU prepares a share in {duration(pace.data_s)}"
    workers = f"{pace.workers} worker{'s' if pace.workers > 1 else ''}"
    steps = f"{seen.config.steps:,} step{'s' if seen.config.steps > 1 else ''}"
    yield f"time: {duration(pace.run_s)} for {steps} with {workers}, {pace.rows_per_s:,.0f} samples/s; {LEFT_OUT}"
    if seen.config.scale.elastic:
        most = seen.config.scale.most
        yield f"time: {duration(pace.run_s * pace.workers / most)} at best with {most} workers"
    if pace.cost:
        yield f"cost: {pace.cost} for that time, by the price per hour in the cluster's profile"
