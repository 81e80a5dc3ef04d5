"""Tracking: a run's configuration and metrics in MLflow."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from genloom import Image
from genloom_platform.config import RunConfig
from genloom_platform.data.manifest import Manifest
from genloom_platform.models.registry import Registry
from genloom_platform.train.inbox import Shown
from genloom_platform.train.progress import Report

PARENT = "mlflow.parentRunId"
"""The tag by which MLflow's pages show a run below another."""
STORE = "store"
"""The tag that names the store of a run."""
MAX_METRICS = 1000
"""MLflow takes no more in one call."""
MAX_SCHEMA = 1_000_000
"""MLflow keeps no longer text about a dataset."""


class Tracking:
    """One run in MLflow."""

    def __init__(self, registry: Registry, run_id: str = "") -> None:
        self._registry, self._client, self._store = registry, registry.client, registry.store
        self.run_id = run_id
        if run_id:
            self._client.update_run(run_id, status="RUNNING")

    def start(self, name: str, config: RunConfig, manifest: Manifest, parent: str = "") -> str:
        """Open a run, as a child of another where one is given; returns its id."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tags = {"dataset": manifest.full_name, "dataset.digest": manifest.digest}
        tags |= {PARENT: parent} if parent else {}
        tags |= {"parent": config.finetune.model} if config.finetune else {}
        values = flat(config.model_dump(mode="json", exclude_defaults=True))
        self.run_id = opened(self._registry, name, tags, values)
        source = json.dumps({"store": self._store.url, "dataset": manifest.full_name})
        columns = {name: column.model_dump(mode="json") for name, column in manifest.columns.items()}
        dataset = Dataset(
            name=manifest.name,
            digest=manifest.version,
            source_type="genloom",
            source=source,
            schema=json.dumps(columns)[:MAX_SCHEMA],
            profile=json.dumps({"rows": manifest.splits, "bytes": manifest.size_bytes}),
        )
        tags = [InputTag("mlflow.data.context", "training")]
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])
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
        rows.append(Metric("memory_bytes", report.memory_bytes, now, report.step))
        rows += [Metric("mfu", report.mfu, now, report.step)] if report.mfu is not None else []
        for at in range(0, len(rows), MAX_METRICS):
            self._client.log_batch(self.run_id, metrics=rows[at : at + MAX_METRICS])

    def show(self, shown: Shown) -> None:
        """Record samples that were made while the model trains."""
        for place in shown.places:
            content, name = self._store.read(place), Path(place).name
            if name.endswith(".png"):
                picture = np.asarray(Image.from_bytes(content).array)
                self._client.log_image(self.run_id, picture, key="samples", step=shown.step)
                continue
            with tempfile.TemporaryDirectory(prefix="genloom-samples-") as scratch:
                local = Path(scratch) / name
                local.write_bytes(content)
                self._client.log_artifact(self.run_id, str(local), "samples")

    def end(self, state: str) -> None:
        """Close the run: FINISHED, FAILED or KILLED."""
        self._client.set_terminated(self.run_id, state)


def opened(registry: Registry, name: str, tags: dict[str, str], values: dict[str, str]) -> str:
    """The id of an open run in MLflow with some parameters.

    It is a new one, or that of a process which ended before it had recorded in the store what it opened.
    """
    from mlflow.entities import Param

    client, experiment, tags = (
        registry.client,
        registry.experiment(),
        tags | {STORE: registry.store.url},
    )
    wanted = f"attributes.run_name = '{name}' and attributes.status = 'RUNNING'"
    for run in client.search_runs([experiment], wanted):
        same = run.data.params in ({}, values) and tags.items() <= run.data.tags.items()
        if same and not run.data.metrics:
            found = run.info.run_id
            break
    else:
        found = client.create_run(experiment, run_name=name, tags=tags).info.run_id
    client.log_batch(found, params=[Param(key, value) for key, value in values.items()])
    return found


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested values as MLflow's parameters: text, by dotted keys."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return found
