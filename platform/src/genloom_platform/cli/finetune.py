"""`genloom finetune`. The next file to read is `models/start.py`."""

from typing import Annotated

import typer

from genloom_platform.cli.train import see_through


def finetune(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="The model to start from: name, name@version or name@alias."
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="freeze, lora and rates, and any key of the run or the generator.", metavar="KEY=VALUE"
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The dataset: name or name@version.")] = None,
    workers: Annotated[int | None, typer.Option(help="Data-parallel workers.")] = None,
    name: Annotated[str | None, typer.Option(help="The run's name.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Check and show the run; start nothing.")] = False,
) -> None:
    """Train a registered model further, on another dataset, and register the result.

    It is the next version of the same name, unless model=NAME gives another. What fits of its weights is kept.

    For example: genloom finetune image-classifier lora.rank=4 steps=200 --data letters

    freeze=[layers.0] keeps parts as they are, lora.rank=4 trains adapters in place of the weights,
    rates.layers.0=0.1 trains a part more slowly.
    """
    from genloom_platform import config as configs
    from genloom_platform.models import finetune as finetunes
    from genloom_platform.store import Store

    words = list(overrides or [])
    words += [f"data={data}"] if data else []
    words += [f"scale.workers={workers}"] if workers is not None else []
    store = Store()
    config = configs.resolve(finetunes.request(model, configs.settings(words)), store)
    see_through(store, config, name, dry_run)
