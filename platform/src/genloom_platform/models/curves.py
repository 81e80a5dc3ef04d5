"""A run's losses as a picture: one small chart for each figure that it reported."""

import io
import math
from typing import Any

from genloom_platform.models.registry import Registry

WITHOUT = ("rows_per_s", "seconds/", "memory_bytes", "mfu", "system/", "test/")
"""Figures of a run that are no losses."""
CHARTS = 6
POINTS = 600
"""More are thinned out: a chart is about so many pixels wide."""
Curve = list[tuple[int, float]]
"""Steps and values."""


def losses(registry: Registry, tracking_id: str) -> dict[str, Curve]:
    """What a run reported of its training, by name; the first few where there are many."""
    from mlflow.exceptions import MlflowException

    try:
        run = registry.client.get_run(tracking_id)
    except MlflowException:
        return {}  # deleted on MLflow's pages
    names = [name for name in sorted(run.data.metrics) if not name.startswith(WITHOUT)]
    found: dict[str, Curve] = {}
    for name in names[:CHARTS]:
        points = registry.client.get_metric_history(tracking_id, name)
        values = {int(each.step): float(each.value) for each in points}
        curve = [(step, values[step]) for step in sorted(values) if math.isfinite(values[step])]
        found[name] = curve[:: -(-len(curve) // POINTS) or 1]
    return {name: curve for name, curve in found.items() if len(curve) > 1}


def picture(curves: dict[str, Curve]) -> bytes:
    """Curves as a PNG, one chart each, two in a row."""
    from matplotlib.figure import Figure

    columns = min(2, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4.5 * columns, 2.4 * rows), dpi=110, layout="constrained")
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for place, name in zip(axes.flat, curves, strict=False):
        steps, values = zip(*curves[name], strict=True)
        place.plot(steps, values, linewidth=1.2, color="#2563a8")
        place.set_title(name, fontsize=9, loc="left")
        place.tick_params(labelsize=8)
        place.grid(alpha=0.25)
        place.spines[["top", "right"]].set_visible(False)
        place.set_xlabel("step", fontsize=8)
    for place in list(axes.flat)[len(curves) :]:
        place.remove()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
