"""Tracking: a run's configuration and metrics in MLflow."""

import json
import time
from typing import Any

from genloom_platform.config import RunConfig
from genloom_platform.data.manifest import Manifest
from genloom_platform.models.registry import Registry
from genloom_platform.train.progress import Report

MAX_METRICS = 1000
"""MLflow takes no more in one call."""


class Tracking:
    """One run in MLflow."""

    def __init__(self, registry: Registry, run_id: str = "") -> None:
        self._client = registry.client
        self._experiment = registry.experiment()
        self.run_id = run_id
        if run_id:
            self._client.update_run(run_id, status="RUNNING")

    def start(self, name: str, config: RunConfig, manifest: Manifest) -> str:
        """Open a run; returns its id."""
        tags = {"dataset": manifest.full_name, "dataset.digest": manifest.digest}
        self.run_id = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        from mlflow.entities import Param

        values = _flat(config.model_dump(mode="json", exclude_defaults=True))
        self._client.log_batch(self.run_id, params=[Param(key, value) for key, value in values.items()])
        return self.run_id

    def log(self, report: Report) -> None:
        """Record a report, every step of it."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        first = report.step - len(report.metrics) + 1
        rows = [
            Metric(key, value, now, first + index)
            for index, step in enumerate(report.metrics)
            for key, value in step.items()
        ]
        rows.append(Metric("rows_per_s", report.rows_per_s, now, report.step))
        rows += [Metric(f"seconds/{k}", v, now, report.step) for k, v in report.seconds.items()]
        for at in range(0, len(rows), MAX_METRICS):
            self._client.log_batch(self.run_id, metrics=rows[at : at + MAX_METRICS])

    def end(self, state: str) -> None:
        """Close the run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self.run_id, state)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat
