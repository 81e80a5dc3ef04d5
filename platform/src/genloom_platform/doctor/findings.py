"""Findings: what a check saw, where, whether that is well, and the remedy where it is not."""

from collections.abc import Sequence

from pydantic import Field

from genloom_platform.settings import Settings

HERE = "this machine"


class Finding(Settings):
    """What a check saw."""

    check: str
    where: str
    """The machine, or the machines that see the same."""
    well: bool
    seen: str
    remedy: str = ""
    """What to do, where it is not well."""

    def at(self, where: str) -> "Finding":
        """The same, seen there."""
        return self.model_copy(update={"where": where})


def finding(check: str, well: bool, seen: str, remedy: str) -> Finding:
    """A finding of this machine; the remedy is told where it is not well."""
    return Finding(check=check, where=HERE, well=well, seen=seen, remedy="" if well else remedy)


def of_error(check: str, error: Exception) -> Finding:
    """A finding that an error tells: its last clause is the remedy."""
    seen, _, remedy = str(error).rpartition("; ")
    return finding(check, False, seen or str(error), remedy if seen else "")


class Port(Settings):
    """A port that listens for other machines."""

    number: int
    process: str
    """The command that holds it."""


class Seen(Settings):
    """What one machine sees of itself, and what must be equal on all."""

    where: str
    findings: tuple[Finding, ...]
    versions: dict[str, str] = Field(default_factory=dict)
    """By name: python, packages, plugins."""
    gpus: int = 0
    gpu_versions: dict[str, str] = Field(default_factory=dict)
    """By name: CUDA and NCCL, where there are GPUs."""
    address: str = ""
    """Where the other machines of its cluster reach it."""
    ports: tuple[Port, ...] = ()

    def placed(self, where: str) -> "Seen":
        """The same, under the name that others know the machine by."""
        found = tuple(each.at(where) for each in self.findings)
        return self.model_copy(update={"where": where, "findings": found})


class Report(Settings):
    """All that is found, as `--json` prints it."""

    well: bool
    findings: tuple[Finding, ...]
    machines: tuple[Seen, ...]
    """Those that were looked at, without their findings; a cluster's head is the first."""


def report(findings: Sequence[Finding], seen: Sequence[Seen]) -> Report:
    """The findings in order of their checks, those of several machines together."""
    order = list(dict.fromkeys(each.check for each in findings))
    kept = sorted(findings, key=lambda each: order.index(each.check))
    machines = tuple(each.model_copy(update={"findings": ()}) for each in seen)
    return Report(well=all(each.well for each in kept), findings=tuple(kept), machines=machines)


def together(findings: Sequence[Finding]) -> list[Finding]:
    """Findings that differ in nothing but the machine, as one."""
    places: dict[Finding, list[str]] = {}
    for each in findings:
        places.setdefault(each.at(""), []).append(each.where)
    return [each.at(", ".join(dict.fromkeys(where))) for each, where in places.items()]
