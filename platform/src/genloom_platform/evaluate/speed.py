"""What an option of a deployment gains and costs: requests per second, latency, metrics and samples.

Both networks, that of the training and that of the option, answer the same prompts in turn, in this process and
on one thread a replica has; what HTTP and queues add is the same for both and not in it.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import computed_field

import genloom
from genloom import Audio, Image, Notes, Text
from genloom.data import Facts
from genloom.errors import GenloomError, RequestError
from genloom.predictions import Embedding, Label, Ranking, Value
from genloom_platform.data import manifest as manifests
from genloom_platform.evaluate.evaluate import evaluate_network, rows_of
from genloom_platform.evaluate.measured import shown
from genloom_platform.models import loading
from genloom_platform.models.registry import Registry, Version
from genloom_platform.serve.speed import LARGEST, Speed, answers, apply, prompts
from genloom_platform.store import Store

BATCHES = (1, LARGEST)
ROUNDS = 9
"""Turns of each network at each batch size; the median counts."""
TURN_S = 0.1
"""A turn's calls are as many as take about so long, one at least."""
TAG = "speed."
"""Before the option's name, the tag of a version that tells its figures."""


class Pace(Facts):
    """How both networks answer batches of one size."""

    batch: int
    plain_latency_s: float
    latency_s: float

    @computed_field
    @property
    def plain_rate_hz(self) -> float:
        """Prompts a second, as training gave it."""
        return self.batch / self.plain_latency_s

    @computed_field
    @property
    def rate_hz(self) -> float:
        """Prompts a second, with the option."""
        return self.batch / self.latency_s

    @computed_field
    @property
    def gain(self) -> float:
        """How many times as many prompts a second."""
        return self.plain_latency_s / self.latency_s


class Cost(Facts):
    """A registered metric under both."""

    plain: float
    value: float
    plain_shown: str
    """With its interval."""
    shown: str


class Measurement(Facts):
    """What an option gains and costs."""

    model: str
    option: str
    device: str
    threads: int
    warm_up_s: float
    """How long it takes before the first request may come."""
    paces: tuple[Pace, ...]
    metrics: dict[str, Cost]
    """Of the same rows; none where the version has no metric on its own."""
    num_samples: int
    """Prompts of the seeds 0, 1, 2 … that both answered."""
    equal: float
    """Share of them that both answered alike, to the last bit."""
    mean_difference: float | None
    """Mean absolute difference: of pixels (0 to 255), of waveforms, of probabilities or values."""
    alone_as_in_a_batch: float
    """Share of samples that are the same alone and in a batch of 64, with the option."""

    @property
    def told(self) -> str:
        """In a line, as the registry keeps it."""
        parts = [
            f"batch {each.batch}: {each.rate_hz:.4g}/s ({each.gain:.2f}×), {each.latency_s * 1000:.3g} ms"
            for each in self.paces
        ]
        parts += [f"{name} {each.plain:.4g} → {each.value:.4g}" for name, each in self.metrics.items()]
        difference = (
            "" if self.mean_difference is None else f", mean difference {self.mean_difference:.3g}"
        )
        parts.append(f"{self.equal:.0%} of {self.num_samples} samples equal{difference}")
        parts.append(f"{self.alone_as_in_a_batch:.0%} the same alone as in a batch")
        parts.append(f"on {self.device}, {self.threads} thread{'s' if self.threads > 1 else ''}")
        return "; ".join(parts)[:1000]


def measure(store: Store, reference: str, speed: Speed) -> tuple[Version, Measurement]:
    """Measure an option against the network as training gave it, and write the figures to the version.

    Raises:
        RequestError: There is no such model, it does not work with the option, or the option changes nothing.
    """
    import torch

    if speed.is_plain:
        raise RequestError(
            "precision = fp32, not compiled: that is what the others are measured against; give "
            "--precision bf16 or int8, or --compile"
        )
    version = Registry(store).find(reference)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a replica
    try:
        found = _measured(store, version, speed)
    finally:
        torch.set_num_threads(threads)
    return Registry(store).tag(version, {TAG + speed.name: found.told}), found


def _measured(store: Store, version: Version, speed: Speed) -> Measurement:
    import torch

    same_device = Speed(device=speed.device, prompt=speed.prompt)
    plain = apply(loading.load_version(store, version), same_device)
    started = time.perf_counter()
    fast = apply(loading.load_version(store, version), speed)
    warm_up_s = time.perf_counter() - started
    asked = prompts(plain, LARGEST, speed.prompt, _rows(store, version, plain))
    before, after = answers(plain, asked), answers(fast, asked)
    alone = [answers(fast, [prompt])[0] for prompt in asked]
    equal, difference = compared(before, after)
    device = next((weight.device.type for weight in fast.module.parameters()), "cpu")
    return Measurement(
        model=version.full_name,
        option=speed.name,
        device=torch.cuda.get_device_name() if device == "cuda" else "CPU",
        threads=torch.get_num_threads(),
        warm_up_s=warm_up_s,
        paces=tuple(_pace(plain, fast, asked[:batch]) for batch in BATCHES),
        metrics=_metrics(store, version, plain, fast),
        num_samples=len(asked),
        equal=equal,
        mean_difference=difference,
        alone_as_in_a_batch=compared(after, alone)[0],
    )


def compared(some: Sequence[Any], others: Sequence[Any]) -> tuple[float, float | None]:
    """The share of answers that are equal, and the mean absolute difference of their numbers.

    The difference is None where answers have no numbers, as texts, or not equally many.
    """
    equal = sum(one == other for one, other in zip(some, others, strict=True)) / len(some)
    pairs = [(_numbers(one), _numbers(other)) for one, other in zip(some, others, strict=True)]
    apart = [
        np.abs(one - other).mean()
        for one, other in pairs
        if one is not None and other is not None and one.shape == other.shape
    ]
    return equal, float(np.mean(apart)) if len(apart) == len(pairs) else None


def _numbers(answer: Any) -> NDArray[np.float64] | None:
    match answer:
        case Image():
            return answer.array.astype(np.float64)
        case Audio():
            return answer.waveform.astype(np.float64)
        case Label():
            return np.asarray(answer.probabilities) if answer.probabilities else None
        case Value():
            return np.asarray(answer.value)
        case Embedding():
            return np.asarray(answer.vector)
        case Text() | Notes() | Ranking():
            return None
        case _:
            raise GenloomError(f"{type(answer).__name__} is no answer that can be compared")


def _pace(plain: genloom.LoadedModel, fast: genloom.LoadedModel, asked: Sequence[Any]) -> Pace:
    """Medians of turns that both take one after the other, so that a busy moment meets both."""
    seconds: tuple[list[float], list[float]] = ([], [])
    calls = max(1, round(TURN_S / _timed(lambda: answers(plain, asked), 1)))
    for turn in range(ROUNDS):
        order = [(plain, seconds[0]), (fast, seconds[1])]
        for model, taken in order if turn % 2 else order[::-1]:
            taken.append(_timed(lambda model=model: answers(model, asked), calls))
    medians = [statistics.median(each) for each in seconds]
    return Pace(batch=len(asked), plain_latency_s=medians[0], latency_s=medians[1])


def _timed(call: Callable[[], Any], count: int) -> float:
    """Seconds of one call, the mean of some."""
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count


def _metrics(
    store: Store, version: Version, plain: genloom.LoadedModel, fast: genloom.LoadedModel
) -> dict[str, Cost]:
    """The metrics that the version's evaluation gives without a judge, under both."""
    release = version.release
    before, after = (
        evaluate_network(store, release, model.trainable, model.module, model.data)
        for model in (plain, fast)
    )
    return {
        name: Cost(
            plain=float(value),
            value=float(after[name]),
            plain_shown=shown(value),
            shown=shown(after[name]),
        )
        for name, value in before.items()
        if name in after
    }


def _rows(store: Store, version: Version, model: genloom.LoadedModel) -> list[dict[str, Any]]:
    """Some rows of its dataset, where its prompts must hold something of them."""
    fields = model.trainable.Prompt.model_fields
    if not any(field.is_required() for field in fields.values()):
        return []
    manifest = manifests.load(store, version.release.dataset)
    split = "test" if "test" in manifest.splits else "train"
    return next(rows_of(store, manifest, split))[:LARGEST]
