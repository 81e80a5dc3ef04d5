"""The report of a sweep: one HTML page that needs nothing else, drawn by its own script from what is recorded."""

import json
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from genloom_platform.store import Store
from genloom_platform.sweep import ranking, records, studies
from genloom_platform.sweep.records import Sweep, Trial
from genloom_platform.sweep.settings import Dimension

PLACE = "/*the sweep*/null"
"""What in the page stands for the data."""


def write(store: Store, made: Sweep, trials: Sequence[Trial]) -> str:
    """Write a sweep's report into its folder; returns its address."""
    path = f"{records.folder(made.name)}/{records.REPORT}"
    store.write(path, page(made, trials).encode())
    return f"{store.url}/{path}"


def page(made: Sweep, trials: Sequence[Trial]) -> str:
    """The page as HTML."""
    template = files("genloom_platform.sweep").joinpath("page.html").read_text()
    # A script ends at the first "</", whatever it stands in.
    text = json.dumps(_told(made, trials), ensure_ascii=False).replace("</", "<\\/")
    return template.replace(PLACE, text)


def _told(made: Sweep, trials: Sequence[Trial]) -> dict[str, Any]:
    config = made.config
    ranked = ranking.ranked(trials, config)
    places = {trial.run: place for place, trial in enumerate(ranked, 1)}
    front = {trial.run for trial in ranking.front(trials, config)} if len(config.metrics) > 1 else set()
    return {
        "name": made.name,
        "created": f"{made.created_at[:16].replace('T', ' ')} UTC",
        "generator": str(config.run.get("generator", {}).get("name", "")),
        "data": str(config.run.get("data", "")),
        "search": config.search,
        "scheduler": config.scheduler.name,
        "metrics": list(config.metrics),
        "modes": list(config.modes),
        "axes": [_axis(key, dimension) for key, dimension in config.space.items()],
        "importance": studies.importance(config, trials),
        "trials": [_trial(t, config.metrics, places.get(t.run), t.run in front) for t in trials],
    }


def _axis(key: str, dimension: Dimension) -> dict[str, Any]:
    if dimension.choice is not None:
        return {"key": key, "kind": "choice", "values": [_label(value) for value in dimension.choice]}
    low, high = dimension.bounds
    return {"key": key, "kind": "log" if dimension.log_range else "number", "low": low, "high": high}


def _trial(trial: Trial, metrics: Sequence[str], place: int | None, front: bool) -> dict[str, Any]:
    return {
        "number": trial.number,
        "run": trial.run,
        "state": trial.state,
        "place": place,
        "front": front,
        "params": {
            key: value if _is_number(value) else _label(value) for key, value in trial.params.items()
        },
        "values": [_finite(trial.metrics.get(metric)) for metric in metrics],
        "curve": [[look.step, _finite(look.metrics.get(metrics[0]))] for look in trial.looks],
        "step": trial.step,
        "seconds": trial.looks[-1].seconds if trial.looks else 0,
        "changes": [[change.step, change.origin] for change in trial.changes],
        "model": trial.model,
        "message": trial.message,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _finite(value: float | None) -> float | None:
    """JSON knows no NaN."""
    return value if value is not None and math.isfinite(value) else None
