"""`genloom data`: bring data in, clean it, label it, widen it, look at it, take it out."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from genloom.errors import RequestError
from genloom_platform.cli.screen import complain, console, pairs, say, table
from genloom_platform.units import size

app = typer.Typer(no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="name or name@version")]
New = Annotated[str, typer.Argument(help="The new dataset's name.")]
Settings = Annotated[list[str] | None, typer.Argument(help="Settings.", metavar="[KEY=VALUE]…")]
SETTING = re.compile(r"[a-z][a-z0-9_]*(\.[A-Za-z0-9_]+)*=")


@app.command("formats")
def formats() -> None:
    """What can be imported."""
    from genloom_platform.data.recipe import formats

    table(("format", "reads"), formats().items(), "no format is installed")


@app.command("import")
def import_(
    format: Annotated[str, typer.Argument(help="genloom data formats shows them.", metavar="FORMAT")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="The file, folder or s3://…; then the dataset's name (the format's if left out); then settings.",
            metavar="[SOURCE] [DATASET] [KEY=VALUE]…",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="A YAML file of settings; KEY=VALUE goes over it.", metavar="FILE"),
    ] = None,
) -> None:
    """Bring data into the store as a dataset. An interrupted import goes on where it was.

    For example: genloom data import imagefolder s3://acme/photos cats split.test=0.1 clean.images.min_side=64
    """
    from genloom_platform.data.imports import import_dataset
    from genloom_platform.settings import read_yaml
    from genloom_platform.store import Store

    settings = [word for word in words or [] if SETTING.match(word)]
    names = [word for word in words or [] if not SETTING.match(word)]
    if len(names) > 2:
        raise RequestError(f"{names[2]!r} is neither SOURCE nor DATASET nor KEY=VALUE; leave it out")
    values = read_yaml(recipe) if recipe else {}
    _nest(values, settings)
    if values.get("format", format) != format:
        raise RequestError(
            f"the recipe is for the format {values['format']}, not {format}; give that one"
        )
    source, dataset = [*names, None, None][:2]
    if len(names) == 1 and ("source" in values or _brings_its_own(format)):
        source, dataset = None, source
    if source and "source" in values:
        raise RequestError(f"there are two sources, {source!r} and {values['source']!r}; give one")
    source = values.pop("source", source)
    with _progress() as show:
        manifest = import_dataset(Store(), format, source, dataset, values, show)
    _told(manifest)


@app.command("clean")
def clean(dataset: Name, new: New, settings: Settings = None) -> None:
    """Make a cleaned dataset of another; what is dropped is set aside with its reason.

    For example: genloom data clean cats cats-clean exact_duplicates=true images.near_duplicates=4
    """
    _derive(dataset, new, settings, "clean")


@app.command("annotate")
def annotate(
    dataset: Name,
    new: New,
    with_: Annotated[
        str | None, typer.Option("--with", help="A registered classifier.", metavar="MODEL")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="A CSV or JSON Lines table that names rows by their key.", metavar="FILE"),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="The column that a classifier's labels go to.")
    ] = None,
) -> None:
    """Make a labelled dataset of another: by a table, or by a classifier."""
    from genloom_platform.data import derive
    from genloom_platform.store import Store

    if (with_ is None) == (labels is None):
        raise RequestError("give either --with MODEL or --labels FILE")
    with _progress() as show:
        if with_:
            manifest = derive.annotate(Store(), dataset, new, with_, column, show)
        else:
            manifest = derive.clean(Store(), dataset, new, {"labels": {"file": str(labels)}}, show)
    _told(manifest)


@app.command("augment")
def augment(
    dataset: Name,
    new: New,
    settings: Settings = None,
    with_: Annotated[
        str | None,
        typer.Option("--with", help="Add samples of this generator instead.", metavar="MODEL"),
    ] = None,
    count: Annotated[int, typer.Option(help="How many samples to add.", min=1)] = 1000,
    balance: Annotated[
        str | None, typer.Option(help="A class column: more is drawn of its rarer classes.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The first sample's seed.", min=0)] = 0,
) -> None:
    """Widen a dataset: augmented copies of its training rows, or samples of a trained generator.

    For example: genloom data augment digits digits-wide copies=2 images.shift=0.1 images.rotate_degrees=10
    """
    from genloom_platform.data import derive
    from genloom_platform.store import Store

    if with_ is None:
        if not settings:
            raise RequestError("give settings, as in images.flip=0.5, or --with MODEL")
        _derive(dataset, new, settings, "augment")
        return
    if settings:
        raise RequestError(f"{settings[0]!r} is for augmented copies; leave it out beside --with")
    with _progress() as show:
        manifest = derive.extend(Store(), dataset, new, with_, count, balance, seed, show)
    _told(manifest)


@app.command("list")
def list_() -> None:
    """Every version of every dataset."""
    from genloom_platform.data.manifest import list_datasets
    from genloom_platform.store import Store

    store = Store()
    rows = [
        (
            m.full_name,
            ", ".join(m.columns),
            f"{sum(m.splits.values()):,}",
            size(m.size_bytes),
            m.created_at[:19],
        )
        for m in list_datasets(store)
    ]
    hint = f"no dataset in {store.url} yet; genloom data import digits brings one in"
    table(("dataset", "columns", "rows", "size", "imported (UTC)"), rows, hint)


@app.command("show")
def show(
    dataset: Name,
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw 16 examples (sounds as spectrograms).", metavar="FILE.png"),
    ] = None,
    split: Annotated[str, typer.Option(help="Whose examples.")] = "train",
) -> None:
    """What a dataset holds, where it came from, and how it looks."""
    from genloom_platform.cli.dataset import describe
    from genloom_platform.data.look import examples
    from genloom_platform.data.look import picture as draw
    from genloom_platform.data.manifest import load
    from genloom_platform.store import Store

    store = Store()
    manifest = load(store, dataset)
    pairs(describe(manifest))
    texts = [name for name, column in manifest.columns.items() if column.kind == "text"]
    if picture:
        rows = examples(store, manifest, split)
        draw(manifest, rows).save(picture)
        say(f"{len(rows)} examples in {picture.absolute()}")
    elif texts:
        for row in examples(store, manifest, split, 4):
            say("  " + " ".join(row[texts[-1]].split())[:160])


@app.command("verify")
def verify(dataset: Name) -> None:
    """Check every byte of a dataset against its digests."""
    from genloom.errors import DataError
    from genloom_platform.data.manifest import load
    from genloom_platform.data.verify import damages
    from genloom_platform.store import Store

    store = Store()
    manifest = load(store, dataset)
    with _bar("verifying", manifest.size_bytes) as advance:
        found = damages(store, manifest, advance)
    if found:
        raise DataError(
            "\n  ".join([f"{len(found)} shards of {manifest.full_name} are damaged:", *found])
        )
    say(
        f"dataset {manifest.full_name}: {len(manifest.shards)} shards are whole, {size(manifest.size_bytes)}"
    )


@app.command("export")
def export(
    dataset: Name,
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    layout: Annotated[
        Literal["parquet", "folder"],
        typer.Option("--as", help="Parquet files, or media as files beside a metadata.csv."),
    ] = "parquet",
) -> None:
    """Take a dataset out of the store."""
    from genloom_platform.data.export import export
    from genloom_platform.data.manifest import load
    from genloom_platform.store import Store

    store = Store()
    manifest = load(store, dataset)
    total = sum(manifest.splits.values())
    with _bar("exporting", total) as advance:
        export(store, manifest, folder, layout, advance)
    say(f"{total:,} rows in {folder.absolute()}")


def _derive(dataset: str, new: str, words: list[str] | None, group: str) -> None:
    """Make a dataset from another by a recipe; what is no key of the recipe belongs to a group of it."""
    from genloom_platform.data import derive
    from genloom_platform.store import Store

    values: dict[str, Any] = {}
    _nest(values, words or [], group)
    if not values:
        raise RequestError(f"there is nothing to {group}; give settings as KEY=VALUE")
    with _progress() as show:
        manifest = derive.clean(Store(), dataset, new, values, show)
    _told(manifest)


def _nest(values: dict[str, Any], words: list[str], group: str | None = None) -> None:
    from genloom_platform.config import nest
    from genloom_platform.config import settings as parsed
    from genloom_platform.data.recipe import Recipe

    for key, value in parsed(words):
        path = key.split(".")
        if path[0] not in Recipe.model_fields:
            path = [group or "options", *path]
        nest(values, path, value)


def _brings_its_own(format: str) -> bool:
    from genloom.registry import load_format

    return not load_format(format).needs_source


@contextmanager
def _progress() -> Generator[Any]:
    """Shows an import: what it does, how fast, and how long it will take."""
    from genloom_platform.observe.importing import ImportDisplay

    with ImportDisplay(console) as display:
        try:
            yield display.show
        except KeyboardInterrupt:
            complain("interrupted; the same command goes on where it was")
            raise typer.Exit(130) from None


@contextmanager
def _bar(what: str, total: int) -> Generator[Any]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.update(task, completed=done)


def _told(manifest: Any) -> None:
    splits = ", ".join(f"{rows:,} {split}" for split, rows in manifest.splits.items())
    say(f"dataset {manifest.full_name}: {splits} rows, {size(manifest.size_bytes)}")
    if manifest.quarantine:
        rules = ", ".join(f"{rows:,} {rule}" for rule, rows in manifest.quarantine.rules.items())
        say(f"left out: {rules} (genloom data show {manifest.name} says where they are)")
