"""A trial: a run whose training waits, at each look, for what Ray Tune decides of it.

The next files to read are `training.py`, and `alone.py` for what runs in this process.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyarrow.fs import LocalFileSystem
from ray import tune
from ray.train._internal.session import _TrainingResult  # pyright: ignore[reportPrivateUsage]
from ray.tune import Checkpoint

from genloom.data import Facts
from genloom_platform.config import RunConfig
from genloom_platform.store import Store
from genloom_platform.sweep.training import Look, Pointer, Training, start
from genloom_platform.train.diagnosis import explain
from genloom_platform.train.failures import NonFiniteLoss

METRICS = "metrics/"
"""Before a metric's name in what Tune is told."""


@dataclass(frozen=True)
class Common:
    """What all trials of a sweep are told."""

    store: Store
    every: int
    """Steps between two looks."""
    metrics: tuple[str, ...]
    """What trials are judged by."""
    retries: int
    """How often a trial that fails is tried again."""


class TrialConfig(Facts):
    """What one trial is told; Tune carries it as JSON."""

    number: int
    params: dict[str, Any]
    run: RunConfig
    dataset: str


class SweepTrial(tune.Trainable):
    """The trial as Tune sees it. Its process trains one after the other."""

    def setup(self, config: dict[str, Any], common: Common | None = None) -> None:
        """A process has started for a trial; `tune.with_parameters` gives what is common to all."""
        assert common
        self._common = common
        self._begin(config)

    def _begin(self, config: Mapping[str, Any]) -> None:
        self._told = TrialConfig.model_validate(config["trial"])
        self._training: Training | None = None
        self._pointer: Pointer | None = None
        self._failures, self._tries = list[str](), 0

    def step(self) -> dict[str, Any]:
        """Train until the next look.

        Where the training fails, the process goes on: with the same trial from its newest checkpoint, or with
        another. So values that no training survives cost no new process each.
        """
        common, told = self._common, self._told
        while True:
            if self._training is None:
                self._training = start(
                    common.store, self.trial_name, told.run, told.dataset, common.every, self._pointer
                )
            try:
                return self._result(self._training.next())
            except Exception as error:
                self._failures.append(explain(error, {})[1])
                # What was not a number would be none again.
                final = isinstance(error, NonFiniteLoss) or self._tries == common.retries
                step = self._training.step
            self.cleanup()
            self._tries += 1
            if final:
                return {"step": step, "failures": self._failures, "failed": True, "done": True}

    def _result(self, look: Look) -> dict[str, Any]:
        """A look as Tune is told of it."""
        missing = [metric for metric in self._common.metrics if metric not in look.metrics]
        failures, self._failures = self._failures, []
        return {
            **{METRICS + name: value for name, value in look.metrics.items()},
            **{METRICS + metric: float("nan") for metric in missing},
            "step": look.step,
            "look": -(-look.step // self._common.every),
            "missing": missing,
            "reports": look.reports,
            "origin": look.origin.model_dump() if look.origin else None,
            "params": self._told.params,
            "failures": failures,
            "failed": False,
            "done": look.step >= self._told.run.steps,
        }

    def save(self, checkpoint_dir: str | None = None) -> _TrainingResult:
        """Say where the checkpoint is that the run itself has taken.

        Tune would copy a folder to a storage that all nodes share, and folders are what S3 does not have. What it
        asks for is only handed from one trial to another, so its path can say all.
        """
        assert self._training
        pointer = Checkpoint(f"{self.trial_name}/{self._training.step}", LocalFileSystem())
        return _TrainingResult(checkpoint=pointer, metrics=dict(self._last_result or {}))

    def restore(self, checkpoint_path: Any) -> None:
        """Begin from a checkpoint of this trial, or of another that does better."""
        run, _, step = checkpoint_path.checkpoint.path.rpartition("/")
        self._pointer = Pointer(run=run, step=int(step))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The process goes on with another trial."""
        self.cleanup()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """End whatever trains."""
        if self._training:
            self._training.end()
            self._training = None
