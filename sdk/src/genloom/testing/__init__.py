"""The conformance kit: run it in your own test, and it lists in plain words all there is to mend.

    import genloom.testing

    def test_my_generator_keeps_the_contract():
        genloom.testing.check(MyGenerator)

It makes up rows for the columns of the class's `Data`, tries every method as the platform will, and,
where genloom-platform is installed, trains a few steps on one worker and on two. The rules are, in
the order in which they are tried, in `statement`, `preparing`, `learning`, `fairness`, `sampling` or
`predicting`, and `distributed`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genloom import registry
from genloom.data import Data
from genloom.errors import ContractMismatch, PluginError
from genloom.generator import Predictor, Trainable
from genloom.testing import distributed as _distributed
from genloom.testing import fairness, learning, predicting, preparing, sampling, statement
from genloom.testing.case import Case
from genloom.testing.report import Finding, Outcome, Report

__all__ = ["Finding", "Outcome", "Report", "check", "report"]

Rows = Sequence[Mapping[str, Any]]


def check(
    subject: type[Trainable] | Trainable | str,
    rows: Rows | None = None,
    *,
    data: Data | None = None,
    prompts: Rows | None = None,
    distributed: bool = True,
) -> Report:
    """Examine a generator or predictor; arguments as for `report`.

    Raises:
        AssertionError: It breaks the contract; the message lists every rule, what was seen and what
            to mend.
    """
    found = report(subject, rows, data=data, prompts=prompts, distributed=distributed)
    if not found.passed:
        raise AssertionError(str(found))
    return found


def report(
    subject: type[Trainable] | Trainable | str,
    rows: Rows | None = None,
    *,
    data: Data | None = None,
    prompts: Rows | None = None,
    distributed: bool = True,
    watch: Callable[[Finding], None] | None = None,
) -> Report:
    """Examine a generator or predictor and return the findings.

    Args:
        subject: The class, a configured instance of it, or an installed plugin's name.
        rows: Rows of a dataset; example rows for every column of its `Data` where None.
        data: The facts of those rows; what can be read off them where None.
        prompts: Fields of prompts to ask, without seeds; made from the rows where None.
        distributed: Whether to train on workers too, which takes most of the time.
        watch: Called with each finding as it is made.

    Raises:
        UnknownName: No plugin has that name.
        NameConflict: Two packages claim it.
    """
    findings: list[Finding] = []
    outcomes: dict[str, Outcome] = {}

    def note(finding: Finding) -> None:
        findings.append(finding)
        outcomes[finding.check] = finding.outcome
        if watch:
            watch(finding)

    try:
        cls, given, name = _resolved(subject)
    except (PluginError, ContractMismatch) as error:
        remedy = "mend what the message names, and install the package again (pip install -e .)"
        note(Finding("plugin", "failed", str(error), "an installed plugin can be imported", remedy))
        return Report(str(subject), findings)
    case = Case(cls, given, rows, data, prompts, distributed)
    answers = predicting.RULES if issubclass(cls, Predictor) else sampling.RULES
    for rule in (*statement.RULES, *preparing.RULES, *learning.RULES, *fairness.RULES, *answers):
        note(rule.judge(case, outcomes))
    for finding in _distributed.judge(case, outcomes):
        note(finding)
    return Report(name, findings)


def _resolved(
    subject: type[Trainable] | Trainable | str,
) -> tuple[type[Trainable], Trainable | None, str]:
    """The class, the instance if one was given, and the name to call it by."""
    if isinstance(subject, str):
        return registry.load(subject), None, subject
    if isinstance(subject, type):
        return subject, None, subject.__name__
    return type(subject), subject, type(subject).__name__
