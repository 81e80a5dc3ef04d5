"""A run's figures for Prometheus, through Ray: each node's metrics port shows those of its processes.

ray_genloom_train_step{run="…", generator="…"} and so on; RAY_PROMETHEUS_HOST and Ray's own pages find them.
"""

from genloom_platform.train.progress import Report

LABELS = ("run", "generator")


class Metrics:
    """The gauges of one run, set by its driver."""

    def __init__(self, run: str, generator: str) -> None:
        from ray.util.metrics import Counter, Gauge

        self._labels = {"run": run, "generator": generator}
        self._count = 0
        self._step = Gauge("genloom_train_step", "Steps done.", LABELS)
        self._rows = Gauge("genloom_train_rows_per_s", "Rows trained on in a second.", LABELS)
        self._phase = Gauge(
            "genloom_train_step_seconds", "Seconds of a step, by phase.", (*LABELS, "phase")
        )
        self._value = Gauge(
            "genloom_train_value", "Losses and metrics of the newest step.", (*LABELS, "name")
        )
        self._memory = Gauge("genloom_train_memory_bytes", "The most that a worker holds.", LABELS)
        self._mfu = Gauge("genloom_train_mfu", "Model FLOPs utilisation, from 0 to 1.", LABELS)
        self._workers = Gauge("genloom_train_workers", "Workers that train.", LABELS)
        self._ends = Counter(
            "genloom_train_attempts", "Attempts that ended, by how.", (*LABELS, "ending")
        )

    def begin(self, workers: int) -> None:
        """An attempt has begun."""
        self._count = workers
        self._workers.set(workers, self._labels)

    def log(self, report: Report) -> None:
        """The workers have come further."""
        self._workers.set(self._count, self._labels)  # Ray forgets a gauge that is not set again
        self._step.set(report.step, self._labels)
        self._rows.set(report.rows_per_s, self._labels)
        self._memory.set(report.memory_bytes, self._labels)
        if report.mfu is not None:
            self._mfu.set(report.mfu, self._labels)
        for phase, seconds in report.seconds.items():
            self._phase.set(seconds, {**self._labels, "phase": phase})
        for name, value in (report.metrics[-1] if report.metrics else {}).items():
            self._value.set(value, {**self._labels, "name": name})

    def end(self, ending: str) -> None:
        """An attempt has ended."""
        self._workers.set(0, self._labels)
        self._ends.inc(1, {**self._labels, "ending": ending})
