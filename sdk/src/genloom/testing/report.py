"""What the kit found: `Finding`, one rule and how it went; `Report`, all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "warning", "not run"]
MARKS: dict[Outcome, str] = {"passed": "✓", "failed": "✗", "warning": "!", "not run": "–"}


@dataclass(frozen=True)
class Finding:
    """One rule of the contract, and whether the subject keeps it."""

    check: str
    """The rule's short name, as in "same seed"."""
    outcome: Outcome
    seen: str
    """What was seen; for a rule that was not run, why."""
    rule: str
    """What the contract asks."""
    remedy: str
    """What to mend, where it is broken."""

    def __str__(self) -> str:
        head = f"{MARKS[self.outcome]} {self.check}" + (f": {self.seen}" if self.seen else "")
        if self.outcome in ("passed", "not run"):
            return head
        return f"{head}\n    rule: {self.rule}\n    mend: {self.remedy}"


@dataclass(frozen=True)
class Report:
    """All that the kit found on one generator or predictor."""

    subject: str
    """The class's name, or the plugin's."""
    findings: Sequence[Finding]

    @property
    def passed(self) -> bool:
        """Whether no rule is broken."""
        return not self.of("failed")

    def of(self, outcome: Outcome) -> list[Finding]:
        """The findings of one outcome."""
        return [finding for finding in self.findings if finding.outcome == outcome]

    def __str__(self) -> str:
        failed, warned, skipped = self.of("failed"), self.of("warning"), self.of("not run")
        rules = "1 rule" if len(failed) == 1 else f"{len(failed)} rules"
        head = f"{self.subject} breaks {rules}" if failed else f"{self.subject} keeps the contract"
        lines = [f"{head} ({len(self.of('passed'))} passed)"]
        for title, findings in (("", failed), ("worth a look:", warned), ("not checked:", skipped)):
            if findings:
                lines += [title] if title else []
                lines += ["  " + str(finding).replace("\n", "\n  ") for finding in findings]
        return "\n".join(lines)
