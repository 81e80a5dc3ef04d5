"""The rules that need the platform: the door to it, and what is said where there is none."""

from collections.abc import Mapping
from importlib.metadata import entry_points

from genloom.platforms import GROUP
from genloom.testing.case import Case
from genloom.testing.fairness import incomparable
from genloom.testing.report import Finding, Outcome

NAME = "conformance"
RULE = (
    "training gives the same on one worker and on two, at ZeRO stages 1, 2 and 3, and resumes exactly"
)
NEEDS = ("configuration", "gradients", "loss repeats")


def judge(case: Case, outcomes: Mapping[str, Outcome]) -> list[Finding]:
    """Train it on real workers, through the platform's entry point of the name "conformance"."""
    points = list(entry_points(group=GROUP, name=NAME))
    missing = [need for need in NEEDS if outcomes.get(need) in ("failed", "not run", None)]
    why = ""
    if not case.distributed:
        why = "left out, as distributed=False asked"
    elif missing:
        why = f"needs {missing[0]!r} to pass first"
    elif not points:
        why = "the platform is not installed here; pip install genloom-platform[engines] runs it"
    if why:
        return [Finding("training", "not run", why, RULE, "run the kit where it can train")]
    return points[0].load()(case.trainable, case.data, case.rows, incomparable(case))
