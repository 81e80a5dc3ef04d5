"""The training loop: READ FIRST. One process, a plain function, nothing of Ray, S3 or MLflow.

Every rank runs it. What surrounds it comes in as arguments: `batches` yields this rank's share of
the stream, `report` takes metrics and says whether to stop, `save` commits a checkpoint. On a cluster
`worker.py` calls it under Ray Train; a test or a notebook calls it as it is.
"""

import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

import genloom
from genloom_platform.config import RunConfig
from genloom_platform.data.stream import Batches, to_batch
from genloom_platform.train.engine import Engine

Report = Callable[[int, list[dict[str, float]], float], bool]
"""`report(step, metrics of each step since the last report, rows a second)`; true asks to stop."""


def train(
    config: RunConfig,
    trainable: genloom.Trainable,
    data: Any,
    batches: Batches,
    report: Report,
    save: Callable[[Engine, int], None],
    resume: Callable[[Engine], int] = lambda engine: 0,
) -> Engine:
    """Train a generator; returns the engine with the trained model.

    Args:
        config: The resolved run.
        trainable: The configured generator.
        data: The facts of the dataset, as the generator's `Data`.
        batches: Given a global batch's number, this rank's share of it and all that follow.
        report: Called on every rank after every `config.log_every` steps, with means over the ranks.
        save: Called on every rank to save the engine at a step.
        resume: Loads the newest checkpoint into the engine and returns its step; 0 for none.
    """
    engine = Engine(config, trainable, data)
    start = resume(engine)
    stream = batches(start * engine.rounds)
    recent: list[dict[str, Tensor]] = []
    since = time.monotonic()

    for step in range(start, config.steps):
        shares = [to_batch(trainable, next(stream)) for _ in range(engine.rounds)]
        recent.append(engine.step(step, shares))

        done = step + 1
        last = done == config.steps
        stop = False
        if len(recent) == config.log_every or last:
            rows = len(recent) * engine.rounds * config.global_batch
            stop = engine.any(report(done, engine.mean(recent), rows / (time.monotonic() - since)))
            recent, since = [], time.monotonic()
        if done % config.checkpoint.every == 0 or last or stop:
            save(engine, done)
        if stop:
            break

    return engine
