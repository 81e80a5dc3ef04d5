"""What a generator makes while it trains: samples of the same prompts each time, as files of the run.

runs/<run>/samples/<step>.png            a sheet, where the samples are images of one size
runs/<run>/samples/<step>-<number>.wav   else one file each
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

import genloom
from genloom import Image, Sample
from genloom.data import ClassColumn
from genloom_platform.config import Samples
from genloom_platform.data import encoding, shards
from genloom_platform.data.stream import Stream
from genloom_platform.observe.sheet import contact_sheet
from genloom_platform.store import Store


def prompts(stream: Stream, settings: Samples) -> list[Any]:
    """Prompts with the seeds 0, 1, 2 …, for what a run trains.

    They ask for every class in turn where the prompt takes one. A field that must be given, and is a column of
    the dataset, is taken from its first rows.

    Raises:
        pydantic.ValidationError: A field that must be given is neither that nor in `settings.prompt`.
    """
    kind = type(stream.trainable).Prompt
    return ask(kind, dict(stream.data), lambda: _first_rows(stream), settings)


def ask(
    kind: type[genloom.Prompt],
    data: Mapping[str, Any],
    read: Callable[[], list[dict[str, Any]]],
    settings: Samples,
) -> list[Any]:
    """The same for a type of prompt, the facts of a dataset, and what reads some of its rows."""
    classes = {
        name: len(column.names)
        for name, column in data.items()
        if isinstance(column, ClassColumn) and name in kind.model_fields
    }
    rows = read() if _required(kind) - {*classes, *settings.prompt} else [{}]
    return [
        kind.model_validate(
            {
                **{name: rows[number % len(rows)][name] for name in _required(kind) & rows[0].keys()},
                **{name: number % count for name, count in classes.items()},
                **settings.prompt,
                "seed": number,
            }
        )
        for number in range(settings.count)
    ]


def _required(kind: type[genloom.Prompt]) -> set[str]:
    return {name for name, field in kind.model_fields.items() if field.is_required()}


def _first_rows(stream: Stream) -> list[dict[str, Any]]:
    shard = stream.manifest.shards_of(stream.split)[0]
    table = shards.read_chunks(stream.store, stream.manifest, shard, [0])
    return list(encoding.decode(stream.manifest.columns, table))


def samples(generator: genloom.Generator, module: Any, asked: Sequence[Any]) -> list[Sample]:
    """What the model answers by now."""
    with torch.inference_mode():
        return list(generator.generate(module, asked))


def write(store: Store, run: str, step: int, made: Sequence[Sample]) -> tuple[str, ...]:
    """Store samples; returns where."""
    folder = f"runs/{run}/samples"
    sizes = {sample.array.shape for sample in made if isinstance(sample, Image)}
    if len(sizes) == 1 and all(isinstance(sample, Image) for sample in made):
        files = {f"{folder}/{step:08d}.png": contact_sheet(made).to_bytes()}
    else:
        files = {
            f"{folder}/{step:08d}-{number:02d}{sample.suffix}": sample.to_bytes()
            for number, sample in enumerate(made)
        }
    for place, content in files.items():
        store.write(place, content)
    return tuple(files)
