"""Model cards: what a version is, how it was made, what was measured of it, and what was not.

models/<name>/<run>/card.md       Markdown, with the pictures that lie beside it
models/<name>/<run>/card.html     the same as one file, pictures and sounds inside
models/<name>/<run>/loss.png      what the run reported

The facts are gathered here, the words stand in `templates/card.md.jinja`.
"""

import inspect
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

import genloom
from genloom.data import ClassColumn
from genloom.errors import GenloomError, RequestError
from genloom_platform.data.manifest import Manifest
from genloom_platform.evaluate.measured import Measured
from genloom_platform.models import curves, page, samples
from genloom_platform.models.lineage import Node, datasets_of, lineage, manifest_of, record_of
from genloom_platform.models.registry import Registry, Version
from genloom_platform.models.release import Release
from genloom_platform.models.samples import Samples
from genloom_platform.observe import trees
from genloom_platform.store import Store
from genloom_platform.train import runs

MARKDOWN, HTML, LOSSES = "card.md", "card.html", "loss.png"
NOT_RECORDED = "not recorded"
MAKES = {"Image": "images", "Text": "texts", "Audio": "sounds", "Notes": "scores"}


def save(store: Store, version: Version, file: Path) -> None:
    """Write a version's card to a file: `.html` as one page, `.md` with its pictures beside it.

    Raises:
        RequestError: The file's name ends in neither.
    """
    read(store, version)
    if file.suffix not in (".html", ".md"):
        raise RequestError(f"{file} ends in neither .html nor .md; name it so")
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".html":
        file.write_bytes(store.read(f"{version.place}/{HTML}"))
        return
    markdown = store.read(f"{version.place}/{MARKDOWN}").decode()
    for shown in page.pictures(markdown):
        store.download(f"{version.place}/{shown}", file.parent / shown)
    file.write_text(markdown)


def write(store: Store, version: Version) -> None:
    """Make a version's card, or make it anew after another evaluation."""
    release = version.release
    drawn = samples.read(store, release.path)
    found = curves.losses(Registry(store), version.tracking_id) if version.tracking_id else {}
    if found:
        store.write(f"{release.path}/{LOSSES}", curves.picture(found))
    texts = {
        each.file: store.read(f"{release.path}/{each.file}").decode()
        for each in drawn.examples
        if drawn.kind == "text"
    }
    found_data = [manifest_of(store, name, version.place)[0] for name in datasets_of(release.dataset)]
    data = [manifest for manifest in found_data if manifest]
    values = {
        "name": version.full_name,
        "facts": _facts(release),
        "samples": drawn,
        "texts": texts,
        "metrics": [_metric(name, value) for name, value in version.metrics.items()],
        "training": _training(store, version, found),
        "curves": store.exists(f"{release.path}/{LOSSES}"),
        "dataset": release.dataset,
        "data": [_data(each) for each in data],
        "tree": trees.text(_origins(store, version)),
        "limits": _limits(version, drawn, data),
    }
    values |= _generator(version, release)
    template = page.text_templates().get_template("card.md.jinja")
    store.write(f"{release.path}/{MARKDOWN}", template.render(values).encode())
    render(store, version)


def read(store: Store, version: Version) -> str:
    """The Markdown of a version's card, made where there is none."""
    if not store.exists(f"{version.place}/{MARKDOWN}"):
        write(store, version)
    return store.read(f"{version.place}/{MARKDOWN}").decode()


def render(store: Store, version: Version) -> None:
    """Make the HTML of a version's card from its Markdown."""
    markdown = store.read(f"{version.place}/{MARKDOWN}").decode()
    html = page.to_html(markdown, version.full_name, lambda file: store.read(f"{version.place}/{file}"))
    store.write(f"{version.place}/{HTML}", html.encode())


def _origins(store: Store, version: Version) -> Node:
    """Its lineage, without the aliases: they move, and the card stays."""
    found = lineage(store, version)
    facts = {name: value for name, value in found.facts.items() if name != "aliases"}
    return found.model_copy(update={"facts": facts})


def _generator(version: Version, release: Release) -> dict[str, Any]:
    """What the generator's class tells of itself; little where it is not installed."""
    try:
        trainable = release.trainable()
        data = trainable.Data.model_validate(dict(release.columns))
    except GenloomError as error:
        return {
            "summary": "A registered model.",
            "about": str(error),
            "python": _python(version, None, None),
        }
    cls, about = type(trainable), inspect.getdoc(type(trainable)) or ""
    first, _, rest = about.partition("\n\n")
    return {
        "summary": f"{' '.join(first.split())} {_kind(trainable)} `{release.generator['name']}`.",
        "about": rest,
        "fields": [
            {
                "name": name,
                "value": json.dumps(_stated(getattr(trainable, name))),
                "about": field.description or "",
            }
            for name, field in cls.model_fields.items()
        ],
        "generator": isinstance(trainable, genloom.Generator),
        "command": f"genloom generate {version.full_name} --count 10 {_asking(cls, data)}--out samples",
        "python": _python(version, trainable, data),
        "prompt": _prompt(cls),
        "asked": ", ".join(f"{name} in turn" for name in _classes(cls, data)),
    }


def _stated(value: Any) -> Any:
    """A field's value as JSON; of a group, what differs from its defaults."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    return TypeAdapter(Any).dump_python(value, mode="json")


def _kind(trainable: genloom.Trainable) -> str:
    if isinstance(trainable, genloom.Generator):
        return f"It makes {MAKES[type(trainable).makes.__name__]}; its generator is"
    return f"It tells the {getattr(trainable, 'target', 'target')} of a row; its predictor is"


def _prompt(cls: type[genloom.Trainable]) -> list[dict[str, str]]:
    """The fields of a prompt, with the bounds that their schema states."""
    described = cls.Prompt.model_json_schema().get("properties", {})
    return [
        {
            "name": name,
            "value": "required"
            if field.is_required()
            else "drawn"
            if name == "seed"
            else repr(field.default),
            "about": " ".join([field.description or "", _bounds(described.get(name, {}))]).strip(),
        }
        for name, field in cls.Prompt.model_fields.items()
    ]


def _bounds(schema: dict[str, Any]) -> str:
    ends = [schema[key] for key in ("minimum", "maximum") if key in schema]
    return f"({ends[0]} to {ends[1]})" if len(ends) == 2 else ""


def _classes(cls: type[genloom.Trainable], data: Any) -> dict[str, int]:
    """Fields of the prompt that ask for a class, and how many there are."""
    named = {name: getattr(data, name, None) for name in cls.Prompt.model_fields}
    return {name: len(each.names) for name, each in named.items() if isinstance(each, ClassColumn)}


def _asking(cls: type[genloom.Trainable], data: Any) -> str:
    return "".join(f"--prompt {name}=0..{count - 1} " for name, count in _classes(cls, data).items())


def _python(version: Version, trainable: genloom.Trainable | None, data: Any) -> str:
    if isinstance(trainable, genloom.Predictor):
        fields = [name for name in type(trainable).Prompt.model_fields if name != "seed"]
        asked = ", ".join(f"{name}={name}" for name in fields)
        return (
            f"import genloom\n\n# genloom serve {version.full_name}\n"
            f'endpoint = genloom.connect("http://127.0.0.1:8000")\n'
            f'answer = endpoint.models["{version.name}"].predict({asked})[0]'
        )
    generator = isinstance(trainable, genloom.Generator)
    suffix = type(trainable).makes.suffix if generator else ""
    asked = "".join(f"{name}=0, " for name in _classes(type(trainable), data)) if generator else ""
    return (
        f'import genloom\n\nmodel = genloom.connect().models["{version.full_name}"]\n'
        f'model.generate({asked}seed=7)[0].save("sample{suffix}")'
    )


def _facts(release: Release) -> list[tuple[str, str]]:
    return [
        ("released", f"{release.created_at[:16].replace('T', ' ')} UTC"),
        ("package", f"{release.package} {release.package_version}, contract {release.contract}"),
        ("platform", f"genloom-platform {release.platform}"),
        (
            "weights",
            f"{release.weights_bytes:,} bytes of safetensors, SHA-256 {release.weights_sha256}",
        ),
        *([("finetuned from", release.parent)] if release.parent else []),
    ]


def _training(store: Store, version: Version, found: dict[str, curves.Curve]) -> list[tuple[str, str]]:
    """How it was trained, as far as the run's record tells."""
    release = version.release
    rows = [("run", release.run), ("steps", f"{release.step:,}")]
    run, gone = record_of(store, release.run, version.place)
    if run is None:
        return [*rows, ("its record", gone)]
    config = run.config
    workers = [attempt.workers for attempt in runs.history(store, release.run)]
    rows += [
        (
            "global batch",
            f"{config.global_batch:,} rows, {config.global_batch * release.step:,} in all",
        ),
        ("workers", ", then ".join(map(str, workers)) or str(config.scale.most)),
        ("from start to release", f"{_seconds(run.created_at, release.created_at):,.0f} s"),
        ("optimizer", json.dumps(config.optimizer) if config.optimizer else "as the generator sets it"),
        ("precision", config.precision),
        ("averaged weights", f"decay {config.average}" if config.average else "no"),
        ("seed", str(config.seed)),
    ]
    if run.sweep:
        rows.append(("sweep", run.sweep))
    last = ", ".join(f"{name} {curve[-1][1]:.4g}" for name, curve in found.items())
    return [*rows, *([("at its last step", last)] if last else [])]


def _seconds(start: str, end: str) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _metric(name: str, value: float) -> dict[str, str]:
    measured = isinstance(value, Measured)
    return {
        "name": name,
        "value": f"{value:.4g}",
        "interval": f"{value.low:.4g} to {value.high:.4g}" if measured else "none",
        "on": value.on if measured else "",
    }


def _data(manifest: Manifest) -> dict[str, str]:
    provenance = manifest.provenance
    return {
        "name": manifest.full_name,
        "digest": manifest.digest,
        "rows": ", ".join(f"{rows:,} {split}" for split, rows in sorted(manifest.splits.items())),
        "columns": ", ".join(f"{name} ({each.kind})" for name, each in manifest.columns.items()),
        "source": f"{provenance.source}, read as {provenance.format}",
        "licence": str(provenance.recipe.get("licence", NOT_RECORDED)),
    }


def _limits(version: Version, drawn: Samples, data: list[Manifest]) -> list[str]:
    """What was not measured, so that nobody takes it for granted."""
    metrics = version.metrics
    without = [name for name, value in metrics.items() if not isinstance(value, Measured)]
    found: list[str] = []
    if metrics:
        found.append(
            "The metrics were measured on held-out rows of the datasets that are named there; what it gives on "
            "other data is not known."
        )
        found.append(
            "An interval says what other test rows might have given. What other seeds of the training might have "
            "given was not measured."
        )
    else:
        found.append(
            "Nothing was measured of it: there was no test split, or it gives nothing to measure."
        )
    if without:
        found.append(
            f"No interval: {', '.join(without)}; resampling the rows tells nothing of the spread."
        )
    if drawn.examples and "recognised" not in metrics:
        found.append(
            "How true and how varied its samples are was not measured (genloom evaluate --judge). The samples "
            "above are the first that were drawn, not the best."
        )
    if any(_data(each)["licence"] == NOT_RECORDED for each in data) or not data:
        found.append(
            "The licence of the data is not recorded; find it out before the model is given away."
        )
    found.append("Speed, memory and behaviour under load were not measured.")
    found.append(
        "For whom or for what it works less well than the mean, by class or by group, was not examined."
    )
    return found
