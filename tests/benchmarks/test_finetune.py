"""What a finetune gains: a classifier of the digits 0 to 4 learns 5 to 9 from ten examples of each.

Every way has the same examples, steps and optimizer, in one process; the test split is all of the digits 5 to 9
that are held out.
"""

import statistics

import pytest
from benchmarks import tables
from finetuning import asked, only, registered

from genloom_platform.config import read_values, resolve
from genloom_platform.data.imports import import_dataset
from genloom_platform.evaluate.evaluate import evaluate_release
from genloom_platform.models.start import plan
from genloom_platform.store import Store

pytestmark = pytest.mark.bench

SEEDS = (0, 1, 2)
BUDGETS = [(1e-3, 50), (1e-3, 200), (1e-2, 50), (1e-2, 200)]
"""(learning rate, steps); one rate does not suit all ways."""
FEATURES = ["layers.0", "layers.1", "layers.4", "layers.5"]
WAYS = {
    "from scratch": None,
    "whole": {},
    "convolutions frozen": {"freeze": FEATURES},
    "all but the new head frozen": {"freeze": ["*"]},
    **{f"adapters, rank {rank}": {"lora": {"rank": rank}} for rank in (2, 4, 8)},
}


def test_ten_examples_of_each_new_class(tmp_path):
    store = Store((tmp_path / "store").as_uri())
    import_dataset(store, "digits", None, None, {})
    only(store, tmp_path, "digits", "low", "01234")
    for seed in SEEDS:
        only(store, tmp_path, "digits", f"few-{seed}", "56789", rows=10, seed=seed)
    words = ["width=64", "steps=400", "global_batch=64", "log_every=100", "average=0.99", "data=low"]
    config = resolve(read_values("image-classifier", [*words, "model=base"]), store)
    base, _ = registered(store, 1, config, "base")
    whole_bytes = base.release.weights_bytes
    rows = []
    for way, settings in WAYS.items():
        figures, sizes = [], set()
        for rate, steps in BUDGETS:
            made = [trained(store, settings, rate, steps, seed) for seed in SEEDS]
            accuracies = [evaluate_release(store, each.release)["accuracy"] for each, _ in made]
            figures.append(f"{statistics.mean(accuracies):.3f} ± {statistics.stdev(accuracies):.3f}")
            sizes |= {(each.release.weights_bytes, trainable) for each, trainable in made}
        ((size_bytes, trainable),) = sizes
        share = f"{size_bytes / whole_bytes:.1%}"
        rows.append((way, *figures, trainable, f"{size_bytes / 1000:,.0f}", share))
    tables.show(
        "Digits 5 to 9 from ten examples each: accuracy, and its standard deviation over three seeds",
        ("", *(f"lr {rate:g}, {steps} steps" for rate, steps in BUDGETS), "train", "kB", "of the base"),
        rows,
        f"the base: digits 0 to 4, accuracy {evaluate_release(store, base.release)['accuracy']:.3f}, "
        f"{whole_bytes / 1000:,.0f} kB; steps of 25 rows, AdamW",
    )


def trained(store, settings, rate, steps, seed):
    """A model made in one of the ways, and the number of parameters that were trained."""
    name = f"{len(store.names('runs'))}-run"
    run = {
        "steps": steps, "global_batch": 25, "log_every": 50, "average": 0.95, "data": f"few-{seed}",
        "seed": seed, "model": name, "optimizer": {"lr": rate},
    }  # fmt: skip
    if settings is None:
        generator = {"name": "image-classifier", "width": 64}
        config = resolve({"generator": generator, **run}, store)
    else:
        config = asked(store, "base", **run, **settings)
    start = plan(store, config)
    made, _ = registered(store, 1, config, name)
    return made, f"{start.trainable:,}" if start else "all"
