"""The time of a training step, ours and the peers', in turns."""

import os
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import pytest
from benchmarks import tables, training_on_ray
from benchmarks.training_contenders import LOG_EVERY, RANKS, Case, rank_of_two
from benchmarks.training_turns import Contender, Gone, Referee

ROUNDS = int(os.environ.get("GENLOOM_BENCH_ROUNDS", "5"))
STAGES = [int(stage) for stage in os.environ.get("GENLOOM_BENCH_ZERO", "0,1,2,3").split(",")]
STEPS = {"gpt": 3, "perceptron": 50}
"""Of a turn."""
WARM = {"gpt": 4, "perceptron": 50}
"""Before the first turn that counts."""
NAMES = {
    "ours": "ours: train/loop.py without Ray",
    "deepspeed": "DeepSpeed by hand",
    "unfused": "DeepSpeed by hand, AdamW as torch makes it by default",
    "ddp": "torch DDP by hand",
    "ray": "Ray Train bare",
    "accelerate": "Accelerate",
    "lightning": "Lightning",
}
PRELOADED = ["benchmarks.training_contenders", "deepspeed", "accelerate", "lightning.pytorch"]
CONTENDERS = os.environ.get("GENLOOM_BENCH_CONTENDERS", ",".join(NAMES)).split(",")


@dataclass
class Found:
    """What was measured of one contender on one case."""

    seconds: list[float] = field(default_factory=list)
    """Of one step, in each round."""
    losses: dict[int, float] = field(default_factory=dict)
    fault: str = ""


def cases_of(contender: str) -> list[Case]:
    """What a contender takes part in, in the order in which all do."""
    steps = {model: WARM[model] + ROUNDS * STEPS[model] + 1 for model in STEPS}
    cases = [Case(model, stage, steps[model]) for model in STEPS for stage in STAGES]
    return [case for case in cases if contender != "ddp" or not case.stage]


def measured(wanted: Sequence[str] = CONTENDERS) -> dict[Case, dict[str, Found]]:
    """Contenders on all their cases; the cluster is there."""
    found: dict[Case, dict[str, Found]] = {case: {} for case in cases_of("ours")}
    with ExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="genloom-bench-")))
        referee = Referee(folder, RANKS)
        alive = {name: ends.enter_context(_started(name, folder, referee)) for name in wanted}
        for case, each in found.items():
            here = {name: Found() for name in wanted if case in cases_of(name)}
            each.update(here)
            _measure(case, here, referee, alive)
    return found


def _measure(
    case: Case, found: dict[str, Found], referee: Referee, alive: dict[str, Callable[[], bool]]
) -> None:
    """Let the contenders of a case take turns, in an order that turns as well."""
    there: dict[str, Contender] = {}

    def do(name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Gone as error:
            found[name].fault = str(error)
            there.pop(name, None)

    def arrive(name: str) -> None:
        there[name] = referee.await_(name, case.name, alive[name])

    def turn(name: str, steps: int) -> None:
        found[name].seconds.append(there[name].turn(steps) / steps)

    def end(name: str) -> None:
        there[name].turn(1)
        found[name].losses = there[name].end()

    for name in found:
        do(name, lambda name=name: arrive(name))
    for number in range(-1, ROUNDS):
        order = list(there)
        shift = number % max(1, len(order))
        for name in order[shift:] + order[:shift]:
            steps = WARM[case.model] if number < 0 else STEPS[case.model]
            do(name, lambda name=name, steps=steps: turn(name, steps))
    for name in list(there):
        found[name].seconds.pop(0)  # it warmed up
        do(name, lambda name=name: end(name))


@contextmanager
def _started(name: str, folder: Path, referee: Referee) -> Iterator[Callable[[], bool]]:
    """A contender's ranks, and whether they live."""
    if name == "ray":
        thread = threading.Thread(
            target=training_on_ray.fit, args=(referee.place, cases_of(name)), daemon=True
        )
        thread.start()
        yield thread.is_alive
        return
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    words = (
        name,
        referee.place,
        str(folder / f"{name}-meeting"),
        cases_of(name),
        str(folder / f"{name}.log"),
    )
    ranks = [
        context.Process(target=rank_of_two, args=(rank, *words), daemon=True) for rank in range(RANKS)
    ]
    for rank in ranks:
        rank.start()
    yield lambda: all(rank.is_alive() for rank in ranks)
    for rank in ranks:
        rank.join(10)
        rank.kill()


def show(found: dict[Case, dict[str, Found]]) -> None:
    """A table for each model."""
    for model in STEPS:
        rows = [
            row
            for case, each in found.items()
            if case.model == model
            for row in (_row(case, name, of, each["ours"]) for name, of in each.items())
        ]
        parameters = sum(p.numel() for p in Case(model, 0, 0).trainable.build(None).parameters())
        tables.show(
            f"a step of the {model}, {parameters:,} parameters, {RANKS} gloo ranks",
            ("", "ZeRO", "ms a step", "lowest – highest", "ours / it", "lowest – highest"),
            rows,
            f"medians of {ROUNDS} rounds of {STEPS[model]} steps, all contenders in turns; ours / it: the median "
            "of the rounds' ratios, below 1 where ours is faster",
            "AdamW (fused but where said), fp32, the same batches; the loss is reported as a mean over the ranks "
            f"every {LOG_EVERY} steps; OMP_NUM_THREADS=1",
            "Ray Train bare, Accelerate, Lightning: DDP at 0, DeepSpeed above",
        )


def _row(case: Case, name: str, found: Found, ours: Found) -> tuple[str, ...]:
    if found.fault:
        return NAMES[name], str(case.stage), found.fault[:70], "", "", ""
    ms = [1e3 * each for each in found.seconds]
    ratios = [a / b for a, b in zip(ours.seconds, found.seconds, strict=False)]
    row = (
        NAMES[name],
        str(case.stage),
        f"{statistics.median(ms):.2f}",
        f"{min(ms):.2f} – {max(ms):.2f}",
    )
    if name == "ours" or not ratios:
        return *row, "", ""
    return *row, f"{statistics.median(ratios):.3f}", f"{min(ratios):.3f} – {max(ratios):.3f}"


def check(found: dict[Case, dict[str, Found]]) -> None:
    """Assert that all did the same work: their losses agree."""
    for case, each in found.items():
        for name, of in each.items():
            if not of.fault:
                common = sorted(set(of.losses) & set(each["ours"].losses))[:1]
                assert common, (case, name)
                assert of.losses[common[0]] == pytest.approx(each["ours"].losses[common[0]], rel=1e-4), (
                    case, name,
                )  # fmt: skip
