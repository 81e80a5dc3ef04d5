"""`genloom evaluate`."""

from typing import Annotated

import typer

from genloom_platform.cli.screen import console, numbers, say


def evaluate(
    model: Annotated[str, typer.Argument(help="name, name@version or name@alias")],
    data: Annotated[
        str | None, typer.Option(help="A dataset; the one that it was trained on if left out.")
    ] = None,
    split: Annotated[str, typer.Option(help="The split that it is held against.")] = "test",
    judge: Annotated[
        str | None, typer.Option(help="A registered predictor that recognises the generator's samples.")
    ] = None,
    count: Annotated[int, typer.Option(help="Samples for the judge.", min=1)] = 1000,
) -> None:
    """Measure a registered model.

    A predictor is held against the split's own labels; a generator by its likelihood, where it has one,
    and by how often a judge recognises its samples as what was asked for.
    """
    from genloom_platform.evaluate.evaluate import evaluate as measure
    from genloom_platform.store import Store

    with console.status("evaluating"):
        version, metrics = measure(Store(), model, data=data, split=split, judge=judge, count=count)
    say(f"{version.full_name}: {numbers(metrics)}")
