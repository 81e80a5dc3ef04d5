"""`genloom models speed`."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from genloom_platform.cli.models import AsJson, Reference
from genloom_platform.cli.screen import console, say, table

if TYPE_CHECKING:
    from genloom_platform.evaluate.speed import Measurement


def speed(
    model: Reference,
    precision: Annotated[
        Literal["fp32", "bf16", "int8"], typer.Option(help="What the network computes in.")
    ] = "fp32",
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network (torch.compile).")
    ] = False,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="A field of the prompts.", metavar="KEY=VALUE"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what an option of `genloom serve` gains in speed, and what it costs in quality.

    Both networks answer in turn, on one thread as in a replica. The figures are written to the version as a tag.
    """
    from genloom_platform.evaluate.speed import measure
    from genloom_platform.serve.speed import Speed
    from genloom_platform.store import Store

    option = Speed(precision=precision, compile=compile, prompt=_fields(prompt or []))
    with console.status("measuring"):
        version, found = measure(Store(), model, option)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
        return
    _show(found)
    say(f"written to {version.full_name}; genloom models show {version.full_name}")


def _show(found: "Measurement") -> None:
    rows: list[tuple[str, str, str, str]] = []
    for pace in found.paces:
        gain = f"{pace.gain:.2f}×"
        rows += [
            (
                f"requests/s, batch {pace.batch}",
                f"{pace.plain_rate_hz:,.4g}",
                f"{pace.rate_hz:,.4g}",
                gain,
            ),
            (
                f"latency, batch {pace.batch}",
                _time(pace.plain_latency_s),
                _time(pace.latency_s),
                "",
            ),
        ]
    rows += [
        (name, cost.plain_shown, cost.shown, f"{cost.value - cost.plain:+.3g}")
        for name, cost in found.metrics.items()
    ]
    rows.append(("equal samples", "", f"{found.equal:.0%}", f"of {found.num_samples}"))
    if found.mean_difference is not None:
        rows.append(("mean difference", "", f"{found.mean_difference:.3g}", ""))
    rows.append(("alone as in a batch", "", f"{found.alone_as_in_a_batch:.0%}", ""))
    rows.append(("warm-up", "", f"{found.warm_up_s:.3g} s", ""))
    threads = f"{found.threads} thread{'s' if found.threads > 1 else ''}"
    say(f"{found.model} on {found.device}, {threads}")
    table(("", "fp32", found.option, ""), rows, "")


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _fields(words: list[str]) -> dict[str, Any]:
    from genloom.errors import RequestError
    from genloom_platform.config import parse_value

    fields: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise RequestError(f"{word!r} is no field; write key=value, as in label=3")
        fields[name] = parse_value(text)
    return fields
