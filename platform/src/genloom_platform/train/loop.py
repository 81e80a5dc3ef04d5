"""The training loop: READ FIRST. One process, a plain function, nothing of Ray, S3 or MLflow.

Every rank runs it. What surrounds it comes in as arguments: `batches` yields this rank's share of
the stream, `report` takes metrics and says whether to stop, `save` takes a checkpoint. On a cluster
`worker.py` calls it under Ray Train; a test or a notebook calls it as it is.
"""

import time
from collections.abc import Callable, Container
from typing import Any

from torch import Tensor, nn

import genloom
from genloom_platform.config import RunConfig
from genloom_platform.data.stream import Batches, to_batch
from genloom_platform.train.engine import Engine
from genloom_platform.train.progress import Clock, Report

REPORT_S = 2.0
"""Reports come at least so often: a wish to stop is seen no later."""

Metrics = dict[str, float]


def train(
    config: RunConfig,
    trainable: genloom.Trainable,
    data: Any,
    batches: Batches,
    report: Callable[[Engine, Report], bool],
    save: Callable[[Engine, int, Metrics], None],
    resume: Callable[[Engine], int] = lambda engine: 0,
    passed_over: Container[int] = (),
    clock: Clock | None = None,
    show: Callable[[Engine, int], None] = lambda engine, step: None,
    prepare: Callable[[nn.Module], None] = lambda model: None,
) -> Engine:
    """Train a generator; returns the engine with the trained model.

    Args:
        config: The resolved run.
        trainable: The configured generator.
        data: The facts of the dataset, as the generator's `Data`.
        batches: Given a global batch's number, this rank's share of it and all that follow.
        report: Called on every rank at the same steps, at least every `config.log_every`; true on any
            asks to save and stop.
        save: Called on every rank to save the engine at a step, with the metrics of that step.
        resume: Loads a checkpoint into the engine and returns its step; 0 for none.
        passed_over: Steps, counted from 1, whose batches are read and not trained on.
        clock: Where the time is counted; a new one where None.
        show: Called on every rank each `config.samples.every` steps, to show what the model makes by now.
        prepare: What is done to the model before the engine takes it: weights to start from, what is frozen.

    Raises:
        NonFiniteLoss: A loss was NaN or infinite, and `config.recovery.nan` is not `skip`.
    """
    clock = clock or Clock()
    engine = Engine(config, trainable, data, prepare)
    start = resume(engine)
    stream = batches(start * engine.rounds)
    recent: dict[int, dict[str, Tensor]] = {}
    since, reported, due = time.monotonic(), start, start + 1
    stop = False

    for done in range(start + 1, config.steps + 1):
        clock.step = done
        with clock.spend("data"):
            shares = [to_batch(trainable, next(stream)) for _ in range(engine.rounds)]
        with clock.spend("compute"):
            if done not in passed_over:
                recent[done] = engine.step(done - 1, shares)

        saving = done % config.checkpoint.every == 0 or done == config.steps
        if done == due or saving:
            with clock.spend("compute"):  # here the device's work is waited for
                means = engine.mean(recent)
                steps, seconds = done - reported, time.monotonic() - since
                spent = engine.mean_of({"all": seconds, **clock.take()}, steps)
                rate = engine.rounds * config.global_batch / spent.pop("all")
                stop = engine.any(report(engine, Report(done, list(means.values()), rate, spent)))
            recent, reported, since = {}, done, time.monotonic()
            pace = int(REPORT_S * rate / (engine.rounds * config.global_batch))
            due = done + max(1, min(config.log_every, pace))
            if saving or stop:
                with clock.spend("checkpoint"):
                    save(engine, done, means.get(done, {}))
        if config.samples.due(done) and not stop:
            with clock.spend("checkpoint"):
                show(engine, done)
        if stop:
            break

    return engine
