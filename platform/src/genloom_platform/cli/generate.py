"""`genloom generate`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from genloom.errors import RequestError
from genloom_platform.cli.screen import console, say


def generate(
    model: Annotated[str, typer.Argument(help="name, name@version or name@alias")],
    count: Annotated[int, typer.Option(help="How many samples.", min=1)] = 1,
    seed: Annotated[
        int | None, typer.Option(help="The first sample's seed; the next has the next one.", min=0)
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="A field of the prompt. A range is spread over the samples: label=0..9.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder that the samples are written to.")] = Path(
        "samples"
    ),
    sheet: Annotated[
        Path | None, typer.Option(help="Write the images as one picture instead.", metavar="FILE.png")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="Ask the model that is served at this URL.", metavar="URL")
    ] = None,
) -> None:
    """Ask a model for samples, here or at an endpoint.

    For example: genloom generate image-vae --count 40 --prompt label=0..9 --sheet digits.png

    The key of an endpoint that asks for one stands in the environment's GENLOOM_API_KEY.
    """
    import genloom

    if sheet and sheet.suffix.lower() != ".png":
        raise RequestError(f"sheet = {sheet}: it is a PNG; name it {sheet.with_suffix('.png').name}")
    # Not an option of the command line, which every user of a machine can read.
    key = os.environ.get("GENLOOM_API_KEY")
    prompts = _prompts(prompt or [], count, seed)
    with console.status("generating"):
        source = genloom.connect(endpoint, key=key) if endpoint else genloom.connect()
        samples = source.models[model].generate(prompts)
    if sheet is None:
        for number, sample in enumerate(samples):
            sample.save(out / f"{model.replace('@', '-')}-{number:04d}{sample.suffix}")
        say(f"{count} sample{'s' if count > 1 else ''} in {out}")
        return
    from genloom_platform.observe.sheet import contact_sheet

    contact_sheet(samples).save(sheet)
    say(f"{count} samples in {sheet.absolute()}")


def _prompts(fields: list[str], count: int, seed: int | None) -> list[dict[str, Any]]:
    from genloom_platform.config import parse_value

    prompts: list[dict[str, Any]] = [{} for _ in range(count)]
    for field in fields:
        name, equals, text = field.partition("=")
        if not equals:
            raise RequestError(f"{field!r} is no field; write key=value, as in label=3")
        low, dots, high = text.partition("..")
        spread = dots and low.lstrip("-").isdigit() and high.lstrip("-").isdigit()
        values = list(range(int(low), int(high) + 1)) if spread else [parse_value(text)]
        if not values:
            raise RequestError(f"{field!r} is an empty range; write the lower end first")
        for number, prompt in enumerate(prompts):
            prompt[name] = values[number * len(values) // count]
    if seed is not None:
        for number, prompt in enumerate(prompts):
            prompt["seed"] = seed + number
    return prompts
