"""`genloom doctor`. What it checks stands in `doctor/`; start with `doctor/machine.py`."""

import os
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from genloom_platform.cli.screen import console, table

if TYPE_CHECKING:
    from genloom_platform.doctor.findings import Finding, Report


def doctor(
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster", help="A cluster, by its profile, looked at from here.", metavar="NAME"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, on one line.")] = False,
) -> None:
    """Check this machine or a cluster, and say what to do where something is wrong; then the exit status is 1.

    Checked are versions, plugins, compiler, GPUs with driver and NCCL, shared memory, disk, store, tracking and
    token; of a cluster (--cluster, or RAY_ADDRESS on one of its machines) each machine, that all have the same
    versions, store and time, and that no port answers without a credential.
    """
    if as_json:
        report = _examine(cluster)
        typer.echo(report.model_dump_json())
    else:
        with console.status("looking"):
            report = _examine(cluster)
        _show(report)
    if not report.well:
        raise typer.Exit(1)


def _examine(cluster: str | None) -> "Report":
    if cluster:
        from genloom_platform.cli.jobs import reached
        from genloom_platform.doctor import laptop

        with reached(cluster) as there:
            return laptop.examine(there)
    if "RAY_ADDRESS" in os.environ:
        from genloom_platform.doctor import nodes

        return nodes.examine()
    from genloom_platform.doctor import machine
    from genloom_platform.doctor.findings import report

    seen = machine.look()
    return report(seen.findings, [seen])


def _show(report: "Report") -> None:
    from genloom_platform.doctor.findings import together

    rows = [(_mark(each), each.check, each.where, _told(each)) for each in together(report.findings)]
    table(("", "check", "where", "seen"), rows, "nothing was checked")


def _mark(finding: "Finding") -> Text:
    return Text("ok", "green") if finding.well else Text("fix", "bold red")


def _told(finding: "Finding") -> Text:
    if finding.well:
        return Text(finding.seen)
    return Text.assemble(finding.seen, ("; ", ""), (finding.remedy, "bold"))
