"""How a rule is written and judged.

A rule is a function that looks at a `Case` and returns in words what it saw. It raises `Broken` where
the contract is broken, `Doubtful` where it may be, `NotRun` where it cannot tell. Whatever else the
author's code raises breaks the rule too, and is told with the author's own line.
"""

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genloom.testing.report import Finding, Outcome

if TYPE_CHECKING:
    from genloom.testing.case import Case


class Broken(Exception):
    """What was seen breaks the rule."""

    outcome: Outcome = "failed"

    def __init__(self, seen: str, remedy: str = "") -> None:
        super().__init__(seen)
        self.remedy = remedy
        """More exact words than the rule's own, where there are some."""


class Doubtful(Broken):
    """What was seen may be meant."""

    outcome: Outcome = "warning"


class NotRun(Broken):
    """The rule could not be tried; the message says why."""

    outcome: Outcome = "not run"


@dataclass(frozen=True)
class Rule:
    """One thing that the contract asks."""

    name: str
    says: str
    remedy: str
    needs: tuple[str, ...]
    """Names of the rules without which this one cannot be tried."""
    test: "Callable[[Case], str]"

    def judge(self, case: "Case", outcomes: Mapping[str, Outcome]) -> Finding:
        """Try the rule.

        Args:
            case: The subject.
            outcomes: Of the rules that were tried before, by name.
        """
        missing = [need for need in self.needs if outcomes.get(need) in ("failed", "not run")]
        if missing:
            return self._finding("not run", f"needs {missing[0]!r} to pass first")
        try:
            return self._finding("passed", self.test(case))
        except Broken as found:
            return self._finding(found.outcome, str(found), found.remedy)
        except Exception as error:  # whatever the author's code raises is a finding
            return self._finding("failed", told(error, case.file))

    def _finding(self, outcome: Outcome, seen: str, remedy: str = "") -> Finding:
        return Finding(self.name, outcome, seen, self.says, remedy or self.remedy)


def rule(
    name: str, says: str, remedy: str, needs: tuple[str, ...] = ()
) -> "Callable[[Callable[[Case], str]], Rule]":
    """Make a rule of a function."""
    return lambda test: Rule(name, says, remedy, needs, test)


def listed(names: Iterable[object], limit: int = 4) -> str:
    """Some names in a row, the rest counted."""
    every = [str(name) for name in names]
    return ", ".join(every[:limit]) + (f" and {len(every) - limit} more" if len(every) > limit else "")


def told(error: Exception, file: str) -> str:
    """An exception in one line, with the deepest line of the author's file that led to it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file]
    place = f" (in {own[-1].name}, line {own[-1].lineno})" if own else ""
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0] if words else 'no message'}{place}"
