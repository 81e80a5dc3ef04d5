"""Sweeps: the cost of scheduling and recording, what early stopping saves, and whether learning from trials pays.

`image-classifier` on the digits, trials of one worker, two at a time. The Ray cluster is started before.
"""

import os
import statistics
import time

import pytest
from benchmarks import sweep_bare, tables

from genloom_platform import cluster
from genloom_platform.data import manifest as manifests
from genloom_platform.data.imports import import_dataset
from genloom_platform.data.stream import local_batches
from genloom_platform.store import Store
from genloom_platform.sweep import launch, plan, ranking
from genloom_platform.train import checkpoint

pytestmark = pytest.mark.bench

TRIVIAL = int(os.environ.get("GENLOOM_BENCH_TRIALS", "50"))
SEEDS = int(os.environ.get("GENLOOM_BENCH_SEEDS", "5"))
FULL = int(os.environ.get("GENLOOM_BENCH_STEPS", "1000"))
"""Steps of a trial in full: what the classifier of the digits is trained with elsewhere."""
CONCURRENT = 2
BEST = 1


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = Store(tmp_path_factory.mktemp("sweeps").as_uri())
    import_dataset(made, "digits", None, None, {})
    cluster.connect(CONCURRENT)
    yield made
    import ray

    ray.shutdown()


def settings(steps, space, trials, **more):
    run = {
        "generator": {"name": "image-classifier", **more.pop("generator", {})},
        "data": "digits", "steps": steps, "global_batch": 64, **more.pop("run", {}),
    }  # fmt: skip
    given = {"metric": "validation/loss", "mode": "min", "concurrent": CONCURRENT}
    return {"run": run, "space": space, "trials": trials, **given, **more}


def timed(store, name, values, on_change=lambda watch: None):
    begun = time.monotonic()
    done = launch.sweep(store, values, name, on_change=on_change)
    return done, time.monotonic() - begun


class Storage:
    """The most checkpoints that lay in the store at once, and the most beyond live trials and the best."""

    def __init__(self, store):
        self._store, self.most, self.beyond, self.looks = store, 0, 0, 0

    def __call__(self, watch):
        live = sum(not trial.ended for trial in watch.trials.values())
        lying = sum(len(checkpoint.committed(self._store, run)) for run in list(watch.trials))
        self.most, self.looks = max(self.most, lying), self.looks + 1
        self.beyond = max(self.beyond, lying - live - BEST)


def test_trivial_trials(store, tmp_path):
    steps, every = 20, 10
    space = {"optimizer.lr": {"log_range": [1e-4, 1e-2]}}
    values = settings(
        steps,
        space,
        TRIVIAL,
        every=every,
        metric="loss",
        generator={"width": 8},
        run={"evaluate": False},
    )
    made = plan.resolve(values, store)
    stream = plan_stream(store, made)
    batches = [dict(next(local_batches(stream, number, number + 1))) for number in range(steps)]
    rates = [made.params(number)["optimizer.lr"] for number in range(TRIVIAL)]
    given = {
        "batches": batches, "steps": steps, "every": every, "data": stream.data,
        "classifier": made.base.trainable(),
    }  # fmt: skip
    rows, ratios = [], []
    for turn in range(3):
        bare_s = sweep_bare.run(rates, CONCURRENT, str(tmp_path / str(turn)), **given)
        storage = Storage(store)
        done, ours_s = timed(store, f"trivial-{turn}", values, storage)
        assert all(trial.state == "finished" for trial in done.trials)
        ratios.append(ours_s / bare_s)
        beyond = f"{storage.most} ({storage.beyond:+d})"
        rows.append((f"turn {turn + 1}", f"{bare_s:.1f}", f"{ours_s:.1f}", f"{ratios[-1]:.2f}", beyond))
    tables.show(
        f"{TRIVIAL} trials of {steps} steps, two looks each, from the first to the registered best",
        ("", "bare Tune s", "ours s", "ratio", "checkpoints at most (beyond live trials + best)"),
        [*rows, ("median", "", "", f"{statistics.median(ratios):.2f}", "")],
    )


def plan_stream(store, made):
    from genloom_platform.data.stream import Stream

    manifest = manifests.load(store, "digits")
    return Stream(store, manifest, made.base.trainable(), made.base.global_batch, made.base.seed)


SPACE = {
    "optimizer.name": {"choice": ["AdamW", "SGD"]},
    "optimizer.lr": {"log_range": [1e-4, 3e-1]},
    "optimizer.momentum": {"range": [0, 0.98], "when": {"optimizer.name": "SGD"}},
    "optimizer.weight_decay": {"log_range": [1e-6, 1e-1]},
    "width": {"choice": [8, 16, 24]},
    "dropout": {"range": [0, 0.6]},
    "shift": {"range": [0, 0.3]},
}


def test_asha_against_all_trials_in_full(store):
    run = {"validation": {"share": 0.2}}
    values = settings(FULL, SPACE, 30, every=FULL // 20, run=run, scheduler="asha", seed=1)
    early, early_s = timed(store, "early", values)
    full, full_s = timed(store, "full", values | {"scheduler": "none"})
    default, _ = timed(
        store, "default", settings(FULL, {"seed": {"choice": [0]}}, 1, run=run, search="grid")
    )
    rows = [
        row("30 trials with ASHA", store, early, early_s),
        row("30 trials in full", store, full, full_s),
        row("the default configuration", store, default, None),
    ]
    tables.show(
        f"image-classifier on the digits, {FULL:,} steps in full",
        ("", "steps in all", "seconds", "best validation/loss", "its test accuracy"),
        rows,
        f"ASHA took {early_s / full_s:.0%} of the time of all trials in full",
    )


def row(name, store, done, seconds):
    from genloom_platform.models.registry import Registry

    best = done.best[0]
    accuracy = Registry(store).find(best.model).metrics["accuracy"]
    steps = sum(trial.step for trial in done.trials)
    loss = best.metrics["validation/loss"]
    return name, f"{steps:,}", f"{seconds:.0f}" if seconds else "", f"{loss:.4f}", f"{accuracy:.4f}"


def test_optuna_against_random(store):
    run = {"validation": {"share": 0.2}, "evaluate": False}
    found = {}
    for search in ("random", "optuna"):
        for seed in range(SEEDS):
            values = settings(60, SPACE, 24, every=60, run=run, search=search, seed=seed)
            done, _ = timed(store, f"{search}-{seed}", values)
            ranked = ranking.ranked(done.trials, done.sweep.config)
            found[search, seed] = [trial.metrics["validation/loss"] for trial in ranked]
    lines = [
        (search, *(f"{found[search, seed][0]:.4f}" for seed in range(SEEDS)),
         f"{statistics.mean(found[search, seed][0] for seed in range(SEEDS)):.4f}",
         f"{statistics.mean(statistics.median(found[search, seed]) for seed in range(SEEDS)):.4f}")
        for search in ("random", "optuna")
    ]  # fmt: skip
    wins = sum(found["optuna", seed][0] < found["random", seed][0] for seed in range(SEEDS))
    tables.show(
        "the best validation/loss of 24 trials of 60 steps, without early stopping",
        ("", *(f"seed {seed}" for seed in range(SEEDS)), "mean", "mean of the trials' median"),
        lines,
        f"Optuna is ahead with {wins} of {SEEDS} seeds",
    )
