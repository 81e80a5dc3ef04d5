"""`genloom data`: import, list, show."""

from typing import Annotated, Any

import typer

from genloom_platform.cli.screen import console, pairs, say, size, table

app = typer.Typer(no_args_is_help=True)


@app.command("import")
def import_(
    format: Annotated[str, typer.Argument(help="digits, cifar10 or text.", metavar="FORMAT")],
    source: Annotated[str | None, typer.Argument(help="The file or folder; none for digits.")] = None,
    dataset: Annotated[
        str | None, typer.Argument(help="The dataset's name; the format's if left out.")
    ] = None,
    test: Annotated[float | None, typer.Option(help="The share of the data that is held out.")] = None,
    passage: Annotated[int | None, typer.Option(help="Characters of a row (text).")] = None,
) -> None:
    """Bring data into the store as a dataset.

    For example: genloom data import digits;  genloom data import text book.txt
    """
    from genloom_platform.data.imports import import_dataset
    from genloom_platform.store import Store

    options: dict[str, Any] = {"test": test, "passage": passage}
    given = {name: value for name, value in options.items() if value is not None}
    with console.status("importing") as status:

        def on_rows(rows: int) -> None:
            if rows % 500 == 0:
                status.update(f"importing: {rows:,} rows")

        manifest = import_dataset(Store(), format, source, dataset, given, on_rows)
    splits = ", ".join(f"{rows:,} {split}" for split, rows in manifest.splits.items())
    say(f"dataset {manifest.full_name}: {splits} rows, {size(manifest.size_bytes)}")


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
def show(dataset: Annotated[str, typer.Argument(help="name or name@version")]) -> None:
    """What a dataset holds and where it came from."""
    from genloom_platform.data.manifest import load
    from genloom_platform.store import Store

    manifest = load(Store(), dataset)
    pairs(
        [
            ("dataset", manifest.full_name),
            ("digest", manifest.digest),
            ("imported", f"{manifest.created_at[:19]} UTC by {manifest.provenance.importer}"),
            ("source", f"{manifest.provenance.format}: {manifest.provenance.source}"),
            ("options", manifest.provenance.options or "none"),
            ("size", f"{size(manifest.size_bytes)} in {len(manifest.shards)} shards"),
            *((f"split {split}", f"{rows:,} rows") for split, rows in manifest.splits.items()),
            *((f"column {name}", _describe(column)) for name, column in manifest.columns.items()),
        ]
    )


def _describe(column: Any) -> str:
    facts = column.model_dump(exclude={"kind"}, exclude_none=True)
    words = [f"{name} {_short(value)}" for name, value in facts.items()]
    return ", ".join([column.kind, *words])


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        items: list[str] = [str(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        shown = " ".join(items[:12])
        return f"({len(items)}) {shown}{' …' if len(items) > 12 else ''}"
    return str(value)
