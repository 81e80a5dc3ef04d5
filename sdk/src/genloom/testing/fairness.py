"""Whether a loss means the same for every number of workers, and the same again when a run resumes."""

from collections.abc import Callable, Sequence

from genloom.objective import Objective
from genloom.testing.case import BATCH, SEED, Case
from genloom.testing.rules import Broken, Doubtful, Rule, listed, rule

DRAWS = 4
"""Random losses that are compared."""
WHOLE = tuple(range(BATCH))
FIRST, SECOND = WHOLE[: BATCH // 2], WHOLE[BATCH // 2 :]

Value = Callable[[Sequence[int], int], float]


@rule(
    "loss repeats",
    "the same weights, batch and seed give the same loss: a resumed run must go on as it was",
    "draw random numbers from torch's global generator, never from numpy or random; keep no state "
    "outside the model",
    needs=("loss",),
)
def loss_repeats(case: Case) -> str:
    """Twice the same, on two fresh models."""
    for name, value in _losses(case):
        one, other = value(WHOLE, SEED), value(WHOLE, SEED)
        if one != other:
            raise Broken(f"{name!r} gave {one!r}, then {other!r}")
    return ""


@rule(
    "loss is a mean",
    "a loss is the mean over the batch's examples: it means the same for every number of workers",
    "take the mean over the batch, not the sum",
    needs=("loss repeats",),
)
def loss_is_a_mean(case: Case) -> str:
    """A batch of twice the same examples costs no more than they do once."""
    for name, value in _losses(case):
        ratios = [value(WHOLE + WHOLE, seed) / (value(WHOLE, seed) or 1.0) for seed in range(DRAWS)]
        if all(1.7 < ratio < 2.4 for ratio in ratios):
            raise Broken(f"{name!r} doubles when each example of the batch is there twice")
    drawn = random_losses(case)
    if not drawn and (why := uneven_losses(case)):
        raise Doubtful(
            f"{why}; each worker sees its own share only, so other numbers of workers train otherwise",
            "give each example its cost and take the mean, unless it is BatchNorm or compares examples",
        )
    return drawn


def incomparable(case: Case) -> str:
    """Why the losses of one and of two workers may differ; empty where they must not."""
    return random_losses(case) or uneven_losses(case)


def random_losses(case: Case) -> str:
    """Which loss draws random numbers, in words; empty where none does."""
    drawn = [name for name, value in _losses(case) if value(WHOLE, 1) != value(WHOLE, 2)]
    return f"{listed(drawn)} draws random numbers, each worker its own" if drawn else ""


def uneven_losses(case: Case) -> str:
    """Which loss of a batch is not the mean of its halves' losses, in words; empty where all are."""
    for name, value in _losses(case):
        whole = value(WHOLE, SEED)
        halves = (value(FIRST, SEED) + value(SECOND, SEED)) / 2
        if abs(whole - halves) > 1e-4 * abs(whole) + 1e-7:
            return f"{name!r} is {whole:.6g} for a batch, {halves:.6g} for its halves"
    return ""


def _losses(case: Case) -> list[tuple[str, Value]]:
    """Each objective's name, and its loss as a function of the rows and the seed."""

    def valued(objective: Objective) -> Value:
        def value(rows: Sequence[int], seed: int) -> float:
            model, batch = case.build().train(), case.batch_of(rows)
            with case.seeded(seed):
                return objective.loss(model, batch).value.item()

        return value

    return [(objective.name, valued(objective)) for objective in case.trainable.objectives()]


RULES: tuple[Rule, ...] = (loss_repeats, loss_is_a_mean)
