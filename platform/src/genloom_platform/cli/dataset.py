"""A dataset in words, for `genloom data show`."""

from collections.abc import Iterator
from typing import Any

from genloom_platform.data.manifest import ColumnStatistics, Manifest
from genloom_platform.units import size


def describe(manifest: Manifest) -> Iterator[tuple[str, object]]:
    """Names and values, one a line."""
    made = manifest.provenance
    yield "dataset", manifest.full_name
    yield "digest", manifest.digest
    yield "imported", f"{manifest.created_at[:19]} UTC by {made.importer}"
    yield "source", f"{made.format}: {made.source}"
    if made.parents:
        yield "made from", ", ".join(made.parents)
    if made.recipe:
        yield "recipe", _settings(made.recipe)
    yield "size", f"{size(manifest.size_bytes)} in {len(manifest.shards)} shards"
    for split, rows in manifest.splits.items():
        yield f"split {split}", f"{rows:,} rows"
    if manifest.quarantine:
        rules = ", ".join(f"{rows:,} {rule}" for rule, rows in manifest.quarantine.rules.items())
        yield "left out", f"{rules}; in datasets/{manifest.name}/{manifest.quarantine.path}"
    for name, column in manifest.columns.items():
        facts = column.model_dump(exclude={"kind"}, exclude_none=True)
        words = [f"{fact} {_short(value)}" for fact, value in facts.items()]
        yield f"column {name}", ", ".join([column.kind, *words])
        for split, statistics in manifest.statistics.items():
            figures = _figures(statistics[name])
            if figures:
                yield f"  in {split}", figures


def _figures(statistics: ColumnStatistics) -> str:
    words = [
        f"{name} {m.mean:.4g} ± {m.deviation:.3g} ({m.minimum:.4g} to {m.maximum:.4g})"
        for name, m in statistics.measures.items()
        if m.deviation or m.minimum != m.maximum
    ]
    if statistics.counts:
        counts = sorted(statistics.counts.items(), key=lambda item: -item[1])
        shown = [f"{name} {count:,}" for name, count in counts[:12]]
        words.append(" ".join(shown) + (f" … {len(counts) - 12} more" if len(counts) > 12 else ""))
    return ", ".join(words)


def _settings(values: dict[str, Any], prefix: str = "") -> str:
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            words.append(_settings(value, f"{prefix}{name}."))  # pyright: ignore[reportUnknownArgumentType]
        else:
            words.append(f"{prefix}{name}={value}")
    return " ".join(word for word in words if word)


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        items: list[str] = [str(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        shown = " ".join(items[:12])
        return f"({len(items)}) {shown}{' …' if len(items) > 12 else ''}"
    return str(value)
