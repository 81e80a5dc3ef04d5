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
RUN = {"steps": 200, "global_batch": 25, "log_every": 50, "average": 0.95}
FEATURES = ["layers.0", "layers.1", "layers.4", "layers.5"]
WAYS = {
    "from scratch": None,
    "whole": {},
    "whole, convolutions at a tenth of the rate": {"rates": dict.fromkeys(FEATURES, 0.1)},
    "convolutions frozen": {"freeze": FEATURES},
    "all but the new head frozen": {"freeze": ["*"]},
    "adapters, rank 2": {"lora": {"rank": 2}},
    "adapters, rank 4": {"lora": {"rank": 4}},
    "adapters, rank 8": {"lora": {"rank": 8}},
    "adapters, rank 8, lr 1e-2": {"lora": {"rank": 8}, "optimizer": {"lr": 1e-2}},
}


def test_ten_examples_of_each_new_class(tmp_path):
    store = Store((tmp_path / "store").as_uri())
    import_dataset(store, "digits", None, None, {})
    only(store, tmp_path, "digits", "low", "01234")
    words = ["width=64", "steps=400", "global_batch=64", "log_every=100", "average=0.99", "data=low"]
    config = resolve(read_values("image-classifier", [*words, "model=base"]), store)
    base, _ = registered(store, 1, config, "base")
    whole_bytes = base.release.weights_bytes
    rows, figures = [], {way: [] for way in WAYS}
    for seed in SEEDS:
        data = f"few-{seed}"
        only(store, tmp_path, "digits", data, "56789", rows=10, seed=seed)
        for number, (way, settings) in enumerate(WAYS.items()):
            name = f"way-{number}-{seed}"
            if settings is None:
                words = [
                    f"{k}={v}" for k, v in {**RUN, "data": data, "seed": seed, "model": name}.items()
                ]
                config = resolve(read_values("image-classifier", ["width=64", *words]), store)
            else:
                config = asked(store, "base", **RUN, data=data, seed=seed, model=name, **settings)
            start = plan(store, config)
            made, _ = registered(store, 1, config, name)
            accuracy = evaluate_release(store, made.release)["accuracy"]
            figures[way].append((accuracy, made.release.weights_bytes, start and start.trainable))
    for way, found in figures.items():
        accuracies = [accuracy for accuracy, _, _ in found]
        _, size_bytes, trainable = found[0]
        rows.append((
            way, f"{statistics.mean(accuracies):.3f}", " ".join(f"{a:.3f}" for a in accuracies),
            f"{trainable:,}" if trainable else "all", f"{size_bytes / 1000:,.0f}",
            f"{size_bytes / whole_bytes:.3f}",
        ))  # fmt: skip
    tables.show(
        "Digits 5 to 9 from ten examples each",
        ("", "accuracy", "by seed", "parameters that train", "kB stored", "of the base"),
        rows,
        f"the base: digits 0 to 4, accuracy {evaluate_release(store, base.release)['accuracy']:.3f}, "
        f"{whole_bytes / 1000:,.0f} kB; {RUN['steps']} steps of {RUN['global_batch']} rows, AdamW, lr 1e-3",
    )
