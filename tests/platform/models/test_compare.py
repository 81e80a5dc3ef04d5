"""Two versions side by side."""

from genloom_platform.evaluate.measured import Measured
from genloom_platform.models.compare import compare
from genloom_platform.models.registry import Registry


def test_metrics_settings_and_sizes_are_compared(versions, store):
    registry = Registry(store)
    one = versions.make("image-classifier", "width=8", log=[2.0, 1.0])
    other = versions.make("image-classifier", "width=16", "optimizer.lr=0.01")
    registry.set_metrics(
        one,
        {
            "accuracy": Measured(0.90, 0.85, 0.94, "rows"),
            "f1": Measured(0.5, 0.4, 0.6, "rows"),
            "apart": Measured(0.1, 0.0, 0.2, "rows"),
            "alone": 1.0,
        },
    )
    registry.set_metrics(
        other,
        {
            "accuracy": Measured(0.92, 0.87, 0.95, "rows"),
            "f1": Measured(0.6, 0.5, 0.7, "other rows"),
            "apart": Measured(0.4, 0.3, 0.5, "rows"),
        },
    )
    found = compare(store, one.full_name, other.full_name)
    metrics = {each.name: each for each in found.metrics}
    assert metrics["accuracy"].one == "0.9 [0.85, 0.94]"
    assert round(metrics["accuracy"].difference, 6) == 0.02
    assert metrics["accuracy"].note == "the intervals overlap"
    assert metrics["f1"].note == "not comparable: rows against other rows"
    assert metrics["apart"].note == "the intervals are apart"
    assert (metrics["alone"].other, metrics["alone"].difference) == ("", None)
    differing = {each.name: (each.one, each.other) for each in found.settings}
    assert differing == {"generator.width": ("8", "16"), "optimizer.lr": ("", "0.01")}
    others = {each.name: (each.one, each.other) for each in found.others}
    assert others["training speed"] == ("100 rows/s", "not known")
    assert others["data"][0] == others["data"][1]
    assert others["weights"][0] != others["weights"][1]
