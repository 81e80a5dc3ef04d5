"""An endpoint's figures for Prometheus, through Ray: each node's metrics port shows those of its processes.

Names get Ray's prefix there: `ray_genloom_serve_requests_total{model="…", route="…", status="200"}`.
No port is opened for them. Where no Ray runs, they are counted and go nowhere. The dashboard in
`deploy/grafana/serving.json` shows them.
"""

import threading
from collections import Counter as Counts
from collections.abc import Callable
from typing import Any

from genloom_platform.serve.seen import NO_ROUTE, Sight
from genloom_platform.train.background import repeating

SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]
SIZES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]
NO_MODEL = "none"
TOLD_S = 1.0
"""Between two times that counts are told to Ray: that costs some tenths of a millisecond each time."""


class Gathered:
    """Counts that are told to Ray together, from a thread of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts[tuple[Any, tuple[tuple[str, str], ...]]]()

    def add(self, counter: Any, count: float, labels: dict[str, str]) -> None:
        """Something was counted."""
        with self._lock:
            self._counts[counter, tuple(labels.items())] += count  # pyright: ignore[reportArgumentType]

    def tell(self) -> None:
        """Tell what has come together."""
        with self._lock:
            counts, self._counts = self._counts, Counts()
        for (counter, labels), count in counts.items():
            counter.inc(count, dict(labels))


class RequestMeters:
    """What the gateway counts. Labels hold nothing that a caller wrote."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        ends = ("model", "route")
        self._requests = Counter(
            "genloom_serve_requests_total", "Requests that ended.", (*ends, "status")
        )
        self._refused = Counter(
            "genloom_serve_refused_total",
            "Requests that were refused, by the error's code.",
            ("reason",),
        )
        self._prompts = Counter(
            "genloom_serve_prompts_total", "Prompts that were answered.", ("model",)
        )
        self._first = Histogram(
            "genloom_serve_first_byte_seconds", "From arrival to the first byte.", SECONDS, ends
        )
        self._last = Histogram(
            "genloom_serve_last_byte_seconds", "From arrival to the last byte.", SECONDS, ends
        )
        self._running = Gauge("genloom_serve_in_flight", "Requests that are being answered.")
        self._count = 0
        self._gathered = Gathered()
        self._telling = repeating(self._tell, TOLD_S)
        self._telling.__enter__()

    def running(self, count: int) -> None:
        """See `seen.Counted`."""
        self._count = count

    def ended(self, sight: Sight) -> None:
        """See `seen.Counted`."""
        labels = {"model": sight.model or NO_MODEL, "route": sight.route or NO_ROUTE}
        status = "gone" if sight.status is None else str(sight.status)
        self._gathered.add(self._requests, 1, {**labels, "status": status})
        if sight.refused:
            self._gathered.add(self._refused, 1, {"reason": sight.refused})
        if sight.model and sight.prompts and sight.status == 200:
            self._gathered.add(self._prompts, sight.prompts, {"model": sight.model})
        if sight.first_ms is not None:
            self._first.observe(sight.first_ms / 1000, labels)
        if sight.whole:
            self._last.observe(sight.last_ms / 1000, labels)

    def _tell(self) -> None:
        self._running.set(self._count)
        self._gathered.tell()


class ModelMeters:
    """What a model's own process counts.

    Args:
        model: `name@version`.
        queue: How many prompts wait beside those that `waits` tells of.
    """

    def __init__(self, model: str, queue: Callable[[], int] = lambda: 0) -> None:
        import torch
        from ray.util.metrics import Counter, Gauge, Histogram

        labels = ("model",)
        self._labels = {"model": model}
        self._gpu = torch.cuda if torch.cuda.is_available() else None
        self._waiting = 0
        self._queue = Gauge("genloom_serve_queue", "Prompts that wait for a batch.", labels)
        self._sizes = Histogram("genloom_serve_batch_size", "Prompts of a batch.", SIZES, labels)
        self._seconds = Histogram(
            "genloom_serve_batch_seconds", "How long a batch was computed.", SECONDS, labels
        )
        self._samples = Counter("genloom_serve_samples_total", "Samples that were made.", labels)
        self._tokens = Counter("genloom_serve_tokens_total", "Tokens that were made.", labels)
        self._memory = Gauge(
            "genloom_serve_gpu_memory_bytes", "What the model's process holds of its GPU.", labels
        )
        self._more = queue
        self._gathered = Gathered()
        self._telling = repeating(self._tell, TOLD_S)
        self._telling.__enter__()

    def waits(self, change: int) -> None:
        """So many prompts more wait for a batch, or fewer."""
        self._waiting += change

    def batch(self, size: int, seconds: float) -> None:
        """A batch was computed."""
        self._sizes.observe(size, self._labels)
        self._seconds.observe(seconds, self._labels)
        self._gathered.add(self._samples, size, self._labels)

    def tokens(self, count: int) -> None:
        """A token model has made so many, one or more."""
        self._gathered.add(self._tokens, count, self._labels)

    def _tell(self) -> None:
        self._queue.set(self._waiting + self._more(), self._labels)
        if self._gpu is not None:
            self._memory.set(self._gpu.memory_reserved(), self._labels)
        self._gathered.tell()


class PoolMeters:
    """What a process counts that several models share."""

    def __init__(self, pool: str) -> None:
        from ray.util.metrics import Counter, Gauge, Histogram

        self._pool, self._number = {"pool": pool}, 0
        labels = ("pool", "model")
        self._loads = Counter("genloom_serve_model_loads_total", "Models that were loaded.", labels)
        self._put_away = Counter(
            "genloom_serve_models_put_away_total", "Models that made room for others.", labels
        )
        self._seconds = Histogram(
            "genloom_serve_model_load_seconds", "How long a model was loaded.", SECONDS, labels
        )
        self._held = Gauge("genloom_serve_models_held", "Models that are loaded.", ("pool",))

    def loaded(self, model: str, seconds: float) -> None:
        """A model was loaded."""
        labels = {**self._pool, "model": model}
        self._loads.inc(1, labels)
        self._seconds.observe(seconds, labels)
        self._change(1)

    def put_away(self, model: str) -> None:
        """A model made room for another one."""
        self._put_away.inc(1, {**self._pool, "model": model})
        self._change(-1)

    def _change(self, by: int) -> None:
        self._number += by
        self._held.set(self._number, self._pool)
