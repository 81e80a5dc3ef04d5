"""Samples of a released generator: drawn once, when it is registered, and kept beside its weights.

models/<name>/<run>/samples/samples.json     what was asked, and the files that came
models/<name>/<run>/samples/sheet.png        all images as one picture
"""

import hashlib
from typing import Any

from pydantic import Field

import genloom
from genloom.data import Facts
from genloom.errors import UnknownName
from genloom_platform.config import Samples as SampleSettings
from genloom_platform.data import encoding, shards
from genloom_platform.data import manifest as manifests
from genloom_platform.models import release as releases
from genloom_platform.models.release import Release
from genloom_platform.store import Store
from genloom_platform.train import runs

FOLDER = "samples"
RECORD = f"{FOLDER}/samples.json"
IMAGES, OTHERS = 20, 4
"""How many are drawn."""


class Example(Facts):
    """A sample that was drawn."""

    file: str
    """Relative to the release's folder."""
    prompt: dict[str, Any]
    """As JSON, without its media."""
    sha256: str


class Samples(Facts):
    """The samples of a release."""

    kind: str = ""
    """`image`, `text`, `audio` or `notes`."""
    examples: tuple[Example, ...] = ()
    sheet: str | None = None
    """The images as one picture, relative to the release's folder."""
    none: str = ""
    """Why there are none."""
    sha256: dict[str, str] = Field(default_factory=dict)
    """Of other files than the examples', by path."""


def draw(store: Store, release: Release) -> Samples:
    """Draw a release's samples with the seeds 0, 1, 2 … and keep them; what hinders it is recorded instead.

    They are asked for as while it was trained: `samples.prompt` of the run, and every class in turn.
    """
    trainable, module, data = releases.load(store, release)
    if not isinstance(trainable, genloom.Generator):
        return Samples(none="a predictor makes none")
    try:
        made = _drawn(store, release, trainable, module, data)
    except Exception as error:  # the author's code; the trained weights are worth registering without
        made = Samples(none=f"{type(error).__name__}: {error}")
    store.write(f"{release.path}/{RECORD}", made.model_dump_json(indent=1).encode())
    return made


def read(store: Store, place: str) -> Samples:
    """The samples of the release in a folder."""
    try:
        return Samples.model_validate_json(store.read(f"{place}/{RECORD}"))
    except FileNotFoundError:
        return Samples(none="none were drawn")


def _drawn(
    store: Store, release: Release, generator: genloom.Generator, module: Any, data: Any
) -> Samples:
    from genloom_platform.train import showing

    count = IMAGES if generator.makes is genloom.Image else OTHERS
    settings = _settings(store, release).model_copy(update={"count": count})
    asked = type(generator).Prompt
    prompts = showing.ask(asked, dict(data), lambda: _rows(store, release), settings)
    samples = showing.samples(generator, module, prompts)
    examples = [
        Example(
            file=f"{FOLDER}/{number:02d}{sample.suffix}",
            prompt=_without_media(prompt),
            sha256=_write(store, release, f"{FOLDER}/{number:02d}{sample.suffix}", sample),
        )
        for number, (prompt, sample) in enumerate(zip(prompts, samples, strict=True))
    ]
    kind = generator.makes.__name__.lower()
    if len({sample.array.shape for sample in samples if isinstance(sample, genloom.Image)}) != 1:
        return Samples(kind=kind, examples=tuple(examples))
    from genloom_platform.observe.sheet import contact_sheet

    sheet = f"{FOLDER}/sheet.png"
    digest = _write(store, release, sheet, contact_sheet(samples, columns=10))
    return Samples(kind=kind, examples=tuple(examples), sheet=sheet, sha256={sheet: digest})


def _settings(store: Store, release: Release) -> SampleSettings:
    """How the run showed samples; as by default where its record is gone."""
    try:
        return runs.find(store, release.run).config.samples
    except UnknownName:
        return SampleSettings.model_validate({})


def _rows(store: Store, release: Release) -> list[dict[str, Any]]:
    """Some rows of the dataset, held-out ones where there are some."""
    manifest = manifests.load(store, release.dataset)
    shard = manifest.shards_of("test" if "test" in manifest.splits else "train")[0]
    table = shards.read_chunks(store, manifest, shard, [0])
    return list(encoding.decode(manifest.columns, table))


def _without_media(prompt: genloom.Prompt) -> dict[str, Any]:
    media = {name for name, value in prompt if isinstance(value, genloom.Sample)}
    return prompt.model_dump(mode="json", exclude=media)


def _write(store: Store, release: Release, path: str, sample: genloom.Sample) -> str:
    content = sample.to_bytes()
    store.write(f"{release.path}/{path}", content)
    return hashlib.sha256(content).hexdigest()
