"""Two versions side by side: what was measured, how they were made, what they weigh."""

from collections.abc import Mapping
from typing import Any

from genloom.data import Facts
from genloom.errors import RequestError
from genloom_platform.evaluate.measured import Measured, shown
from genloom_platform.models.registry import Registry, Version
from genloom_platform.store import Store
from genloom_platform.train import runs

NOT_SETTINGS = ("generator", "data", "model")
"""Keys of a run that are compared on their own."""


class MetricPair(Facts):
    """A metric of two versions."""

    name: str
    one: str
    """With its interval; empty where it was not measured."""
    other: str
    difference: float | None
    """The other's less the one's."""
    note: str = ""
    """What the difference does not say."""


class Difference(Facts):
    """Something in which two versions differ."""

    name: str
    one: str
    other: str


class Comparison(Facts):
    """Two versions side by side."""

    one: str
    other: str
    metrics: tuple[MetricPair, ...]
    settings: tuple[Difference, ...]
    """Of the generator and of the run, those that differ."""
    others: tuple[Difference, ...]
    """Data, package, size and speed, whether they differ or not."""


def compare(store: Store, one: str, other: str) -> Comparison:
    """Compare two versions.

    Raises:
        UnknownName: There is no such model, version or alias.
    """
    registry = Registry(store)
    a, b = registry.find(one), registry.find(other)
    names = [*a.metrics, *(name for name in b.metrics if name not in a.metrics)]
    mine, theirs = _settings(store, a), _settings(store, b)
    facts = _others(registry, a), _others(registry, b)
    keys = [*mine, *(key for key in theirs if key not in mine)]
    return Comparison(
        one=a.full_name,
        other=b.full_name,
        metrics=tuple(_pair(name, a.metrics.get(name), b.metrics.get(name)) for name in names),
        settings=tuple(
            Difference(name=key, one=mine.get(key, ""), other=theirs.get(key, ""))
            for key in keys
            if mine.get(key) != theirs.get(key)
        ),
        others=tuple(
            Difference(name=name, one=facts[0][name], other=facts[1][name]) for name in facts[0]
        ),
    )


def _pair(name: str, one: float | None, other: float | None) -> MetricPair:
    return MetricPair(
        name=name,
        one="" if one is None else shown(one),
        other="" if other is None else shown(other),
        difference=None if one is None or other is None else float(other) - float(one),
        note=_note(one, other),
    )


def _note(one: float | None, other: float | None) -> str:
    if not (isinstance(one, Measured) and isinstance(other, Measured)):
        return ""
    if one.on != other.on:
        return f"not comparable: {one.on} against {other.on}"
    if one.low <= other.high and other.low <= one.high:
        return "the intervals overlap"
    return "the intervals are apart"


def _settings(store: Store, version: Version) -> dict[str, str]:
    """All that was set, by dotted keys: the generator's fields, and the run's where its record is there."""
    found = _flat(version.release.generator, "generator.")
    try:
        config = runs.find(store, version.run).config.model_dump(mode="json")
    except RequestError:
        return found
    return found | _flat({key: value for key, value in config.items() if key not in NOT_SETTINGS})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat


def _others(registry: Registry, version: Version) -> dict[str, str]:
    release = version.release
    return {
        "data": release.dataset,
        "parent": release.parent or "none",
        "package": f"{release.package} {release.package_version}",
        "weights": f"{release.weights_bytes:,} bytes",
        "step": f"{release.step:,}",
        "training speed": _speed(registry, version),
        "released": release.created_at,
    }


def _speed(registry: Registry, version: Version) -> str:
    """Rows a second, as the run last reported; what the machine was is not known."""
    from mlflow.exceptions import MlflowException

    try:
        run = registry.client.get_run(version.tracking_id) if version.tracking_id else None
    except MlflowException:
        run = None
    rate = run.data.metrics.get("rows_per_s") if run else None
    return f"{rate:,.0f} rows/s" if rate else "not known"
