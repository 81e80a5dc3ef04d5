"""Validation: what a model gives on rows that it does not train on, measured whenever the run is saved.

Every rank measures all of the rows, so that layers whose weights are sharded are gathered alike on each.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

import genloom
from genloom_platform.data.stream import Stream
from genloom_platform.evaluate.evaluate import BATCH_ROWS, as_batch, rows_of
from genloom_platform.train.micro import seed_everything

if TYPE_CHECKING:
    from genloom_platform.config import RunConfig
    from genloom_platform.train.engine import Engine

PREFIX = "validation/"


class Validator:
    """The rows that a run is validated on, read once."""

    def __init__(self, config: "RunConfig", stream: Stream) -> None:
        settings = config.validation
        assert settings
        self._config, self._trainable, self._facts = config, stream.trainable, stream.data
        if settings.split:
            shares = rows_of(stream.store, stream.manifest, settings.split)
            found = [row for rows in shares for row in rows][: settings.rows]
        else:
            found = stream.held_out_rows(settings.rows)
        self._rows = [found[at : at + BATCH_ROWS] for at in range(0, len(found), BATCH_ROWS)]

    def measure(self, engine: "Engine") -> dict[str, float]:
        """The loss where there is one objective, and what the evaluation of such a model gives."""
        # A loss may draw, and equal weights are to get equal figures.
        seed_everything(self._config.seed, "validation")
        with engine.gathered() as module:
            kept = [(buffer, buffer.clone()) for buffer in module.buffers()]
            metrics = self._losses(engine, module) if len(engine.objectives) == 1 else {}
            with torch.no_grad():
                metrics |= self._scores(engine, module)
                for buffer, before in kept:  # a loss may change them, and these rows are not trained on
                    buffer.copy_(before)
        return {PREFIX + name: value for name, value in metrics.items()}

    def _losses(self, engine: "Engine", module: Any) -> dict[str, float]:
        """The means over the rows of the objective's loss and metrics."""
        objective = engine.objectives[0]
        sums: dict[str, float] = {}
        for rows, batch in zip(self._rows, self._batches(engine), strict=True):
            loss = objective.loss(module, batch)
            for name, value in {objective.name: loss.value, **loss.metrics}.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(rows)
        count = sum(len(rows) for rows in self._rows)
        return {name: value / count for name, value in sums.items()}

    def _scores(self, engine: "Engine", module: Any) -> dict[str, float]:
        if isinstance(self._trainable, genloom.Predictor):
            from genloom_platform.evaluate.predictor import score

            return score(self._trainable, module, self._facts, self._rows, str(engine.device))
        from genloom_platform.evaluate.likelihood import score as likelihood

        return likelihood(self._trainable, module, self._facts, self._batches(engine))

    def _batches(self, engine: "Engine") -> Iterator[genloom.Batch]:
        for rows in self._rows:
            yield as_batch(self._trainable, self._facts, rows, str(engine.device))
