"""Annotation: labels from a table, or from a registered predictor."""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import genloom
from genloom.data import ClassColumn, Column, NumberColumn, TextColumn
from genloom.errors import DataError, RequestError
from genloom.formats import BadRow
from genloom_platform.data.item import Dropped, Item, Passing, Step
from genloom_platform.data.recipe import Labels
from genloom_platform.store import Store

PREDICT_ROWS = 64


@dataclass(frozen=True)
class Table:
    """A table of labels: row key → column → value."""

    settings: Labels
    values: Mapping[str, Mapping[str, Any]]
    columns: Mapping[str, Column]

    def __call__(self, rows: Passing) -> Passing:
        """The rows with the table's values in them."""
        for row in rows:
            if not isinstance(row, Item):
                yield row
                continue
            found = self.values.get(row.key, {})
            missing = [name for name in self.columns if name not in found and name not in row.values]
            if found:
                row = row.having(**found)
            elif self.settings.missing == "fail":
                yield BadRow(row.key, f"{self.settings.file} does not name it")
                continue
            if missing or (not found and self.settings.missing == "drop"):
                yield Dropped(row, "no label", f"{self.settings.file} does not name it")
            else:
                yield row


def label_steps(
    settings: Labels | None, columns: Mapping[str, Column]
) -> tuple[list[Step], dict[str, Column]]:
    """The step that a table of labels asks for, and the columns with those that it adds.

    A new column of numbers is a number, any other a class; a class that was known by number is given by
    its name.

    Raises:
        RequestError: The table cannot be read, or lacks the key.
        DataError: It names a row twice, or holds a class or a value that its column does not know.
    """
    if settings is None:
        return [], dict(columns)
    values = read_labels(settings)
    names = list(dict.fromkeys(name for row in values.values() for name in row))
    added: dict[str, Column] = {}
    for name in names:
        given = [row[name] for row in values.values() if name in row]
        added[name] = columns.get(name) or _column_for(given)
    checked = {
        key: {name: _value(settings.file, key, name, added[name], value) for name, value in row.items()}
        for key, row in values.items()
    }
    return [Table(settings, checked, added)], {**columns, **added}


def read_labels(settings: Labels) -> dict[str, dict[str, Any]]:
    """Row key → column → value, as the table has them; raises as `label_steps`."""
    path = Path(settings.file).expanduser()
    found: dict[str, dict[str, Any]] = {}
    try:
        rows = list(_rows(path))
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise RequestError(
            f"the table of labels {settings.file} cannot be read: {error}; give a CSV with a header or JSON Lines"
        ) from error
    for number, row in enumerate(rows, 1):
        if settings.key not in row:
            raise RequestError(
                f"{settings.file}, row {number}: there is no column {settings.key!r} that names the row; "
                f"there are {', '.join(row)} (labels.key=NAME)"
            )
        key = str(row.pop(settings.key))
        if key in found:
            raise DataError(
                f"{settings.file}, row {number}: {key!r} was named before; keep one of them"
            )
        found[key] = {name: value for name, value in row.items() if value not in (None, "")}
    if not found:
        raise RequestError(f"the table of labels {settings.file} names no row; give one line a row")
    return found


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix in (".jsonl", ".ndjson"):
            for number, line in enumerate(file, 1):
                row = json.loads(line) if line.strip() else None
                if row is not None and not isinstance(row, dict):
                    raise ValueError(f"line {number} is no object")
                if row is not None:
                    yield row
            return
        reader = csv.DictReader(file)
        for row in reader:
            if None in row:
                raise ValueError(f"line {reader.line_num} has more fields than the header")
            yield row


def _column_for(values: list[Any]) -> Column:
    try:
        numbers = [float(value) for value in values]
        finite = all(map(math.isfinite, numbers))
    except (TypeError, ValueError):
        finite, numbers = False, []
    if not finite:
        return ClassColumn(names=tuple(sorted({str(value) for value in values})))
    whole = all(number.is_integer() for number in numbers)
    return NumberColumn(minimum=min(numbers), maximum=max(numbers), integer=whole)


def _value(file: str, key: str, name: str, column: Column, value: Any) -> Any:
    """A label as its column stores it."""
    if isinstance(column, ClassColumn) and column.names:
        if str(value) not in column.names:
            raise DataError(
                f"{file}: {key!r} has {name} = {value!r}, and the classes are {', '.join(column.names[:20])}"
            )
        return column.names.index(str(value))
    if isinstance(column, (ClassColumn, TextColumn)):
        return str(value)
    if isinstance(column, NumberColumn):
        return _number(file, key, name, column, value)
    raise DataError(f"{file}: the column {name!r} of kind {column.kind} takes no labels from a table")


def _number(file: str, key: str, name: str, column: NumberColumn, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or (column.integer and not number.is_integer()):
        kind = "whole number" if column.integer else "number"
        raise DataError(f"{file}: {key!r} has {name} = {value!r}, which is no {kind}; correct it")
    return int(number) if column.integer else number


@dataclass(frozen=True)
class Predicted:
    """Labels by a registered predictor, with its confidence and its version in the row."""

    store: Store
    model: str
    """`name@number`."""
    column: str
    names: tuple[str, ...]

    def __call__(self, rows: Passing) -> Passing:
        """The rows with the predictions in them."""
        while batch := list(islice(rows, PREDICT_ROWS)):
            items = [row for row in batch if isinstance(row, Item)]
            labels = iter(self._labels(items)) if items else iter(())
            for row in batch:
                yield self._labelled(row, next(labels)) if isinstance(row, Item) else row

    def _labelled(self, item: Item, label: genloom.Label) -> Item:
        values = {
            self.column: label.index,
            f"{self.column}_confidence": _confidence(self.model, label),
            f"{self.column}_model": 0,
        }
        return item.having(**values)

    def _labels(self, items: list[Item]) -> Any:
        import torch

        from genloom_platform.evaluate.evaluate import as_batch

        loaded = _loaded(self.store.url, self.model)
        predictor = loaded.trainable
        assert isinstance(predictor, genloom.Predictor)
        blind = [{k: v for k, v in item.values.items() if k != predictor.target} for item in items]
        with torch.inference_mode():
            return predictor.predict(loaded.module, as_batch(predictor, loaded.data, blind))


def predictor_step(
    store: Store, model: str, column: str | None, columns: Mapping[str, Column]
) -> tuple[Step, dict[str, Column], str]:
    """The step by which a registered predictor labels rows.

    Returns:
        The step, the columns with the label, its confidence and the model's name, and the model's full name.

    Raises:
        UnknownName: There is no such model.
        RequestError: It is no predictor of labels.
        WrongDataset: The dataset lacks what it looks at.
    """
    from genloom_platform.models import loading

    loaded = loading.load(store, model)
    predictor = loaded.trainable
    if not isinstance(predictor, genloom.Predictor):
        raise RequestError(f"{loaded.name} is a generator; a predictor is needed to label rows")
    target = getattr(loaded.data, predictor.target, None)
    if not isinstance(target, ClassColumn):
        raise RequestError(
            f"{loaded.name} does not predict classes; a classifier is needed to label rows"
        )
    column = column or predictor.target
    added: dict[str, Column] = {
        column: ClassColumn(names=target.names),
        f"{column}_confidence": NumberColumn(minimum=0, maximum=1),
        f"{column}_model": ClassColumn(names=(loaded.name,)),
    }
    step = Predicted(store, loaded.name, column, target.names)
    return step, {**columns, **added}, loaded.name


def _confidence(model: str, label: genloom.Label) -> float:
    if not label.probabilities:
        raise RequestError(f"{model} gives no probabilities with its labels, so there is no confidence")
    return float(label.probabilities[label.index])


@lru_cache(maxsize=1)
def _loaded(store_url: str, model: str) -> genloom.LoadedModel:
    from genloom_platform.models import loading

    return loading.load(Store(store_url), model)
