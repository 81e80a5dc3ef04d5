"""A training sent from a laptop beside the same one typed on the head: the time until its first step."""

import os
from statistics import median

import pytest
from benchmarks import tables
from benchmarks.submit_stages import STAGES, Bench, Passed

pytestmark = pytest.mark.bench

ROUNDS = int(os.environ.get("GENLOOM_BENCH_ROUNDS", "3"))


def show(title: str, sent: list[Passed], typed: list[Passed]) -> None:
    ratios = [a.seconds / b.seconds for a, b in zip(sent, typed, strict=True)]
    rows = [(name, _stage(sent, key), _stage(typed, key)) for key, name in STAGES.items()]
    total = [f"{median(each.seconds for each in found):.1f}" for found in (sent, typed)]
    tables.show(
        f"{title}, medians of {len(sent)} rounds in turns",
        ("seconds", "genloom submit", "typed on the head"),
        [*rows, ("until the first step", *total)],
        f"submit / by hand: {median(ratios):.2f} (by round: {' '.join(f'{each:.2f}' for each in ratios)})",
    )


def _stage(found: list[Passed], key: str) -> str:
    times = [each.stages[key] for each in found if key in each.stages]
    return f"{median(times):.1f}" if times else ""


def test_the_first_step_on_a_cluster_that_has_run_the_plugin_before(tmp_path):
    bench = Bench(tmp_path)
    bench.laptop.up()
    try:
        bench.digits()
        bench.submitted("before")
        turns = [
            (bench.submitted(f"sent-{turn}"), bench.by_hand(f"typed-{turn}")) for turn in range(ROUNDS)
        ]
    finally:
        bench.laptop.down()
    show("a cluster that knows the plugin", *map(list, zip(*turns, strict=True)))


def test_the_first_step_on_a_cluster_that_has_just_started(tmp_path):
    turns = []
    for turn in range(ROUNDS):
        pair = []
        for way in ("submitted", "by_hand"):
            bench = Bench(tmp_path / f"{way}-{turn}")
            bench.digits()
            bench.laptop.up()
            try:
                pair.append(getattr(bench, way)("first"))
            finally:
                bench.laptop.down()
        turns.append(pair)
    show("a cluster that has just started", *map(list, zip(*turns, strict=True)))
