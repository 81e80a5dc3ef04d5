"""What a model takes over from another of its kind: tensors of the same name and shape, and rows by their names.

Which tensors have a row for each class or character is found by building the model once more, for a dataset
with one more of them: they are the ones that grow by one. Rows are held to follow the column's order, with
what a network has beside them (a start symbol) at the end; where a network lays them out otherwise, it starts
with rows of other classes or characters in place of random ones, and learns as before.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from genloom.data import ClassColumn, Column, Facts, TextColumn
from genloom.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn


class Renewed(Facts):
    """A tensor of a model that begins anew, in whole or in part."""

    name: str
    shape: tuple[int, ...]
    was: tuple[int, ...] | None = None
    """The parent's; None where the parent has none of that name."""
    column: str | None = None
    """The column whose classes or characters it has rows for, where some are the parent's."""
    dimension: int = 0
    """Along which these rows lie."""
    kept: int = 0
    """How many of them are the parent's."""

    def __str__(self) -> str:
        before = f"{list(self.was)} → " if self.was and self.was != self.shape else ""
        rows = f", {self.kept:,} of {self.shape[self.dimension]:,} rows kept" if self.kept else ""
        return f"{self.name} {before}{list(self.shape)}{rows}"


Places = Mapping[str, tuple[str, int]]
"""Tensor → the column that it has rows for, and the dimension along which they lie."""


def tensors(model: "nn.Module") -> Iterator[tuple[list[str], "Tensor"]]:
    """The tensors of a model's state, each with all of its names: tied weights have several."""
    state: dict[str, Any] = model.state_dict(keep_vars=True)
    names: dict[int, list[str]] = {}
    for name, value in state.items():
        names.setdefault(id(value), []).append(name)
    for each in names.values():
        yield each, state[each[0]]


def places(
    build: Callable[[Any], "nn.Module"], data: Any, model: "nn.Module", before: Mapping[str, Column]
) -> Places:
    """Where a model has rows for the classes and characters that are not those of `before`.

    Args:
        build: Makes such a model for the facts of a dataset.
        data: The facts that `model` was made for.
        model: The model.
        before: The columns that its parent was trained on.
    """
    found: dict[str, tuple[str, int]] = {}
    for name in type(data).model_fields:
        column = getattr(data, name)
        if _entries(column) and _entries(column) != _entries(before.get(name)):
            wider: dict[str, Any] = build(_with_one_more(data, name)).state_dict()
            for tensor, value in model.state_dict().items():
                grown = (
                    _grown(tuple(value.shape), tuple(wider[tensor].shape)) if tensor in wider else None
                )
                if grown is not None:
                    found[tensor] = (name, grown)
    return found


def compared(
    model: "nn.Module",
    shapes: Mapping[str, tuple[int, ...]],
    places: Places,
    before: Mapping[str, Column],
    data: Any,
) -> tuple[list[Renewed], list[str]]:
    """What of a model is not filled by weights of these shapes, and which of them it has no place for."""
    renewed: list[Renewed] = []
    known: set[str] = set()
    for names, tensor in tensors(model):
        known.update(names)
        shape = tuple(tensor.shape)
        was = next((shapes[name] for name in names if name in shapes), None)
        place = next((places[name] for name in names if name in places), None)
        if was == shape and place is None:
            continue
        made = Renewed(name=names[0], shape=shape, was=was)
        if was and place:
            made = _by_rows(made, was, place, before, data)
        renewed.append(made)
    return renewed, [name for name in shapes if name not in known]


def _by_rows(
    made: Renewed, was: tuple[int, ...], place: tuple[str, int], before: Mapping[str, Column], data: Any
) -> Renewed:
    """The same, with the rows that are carried over, where the shapes differ in their number alone."""
    column, dimension = place
    ours = list(made.shape)
    ours[dimension] = was[dimension] if dimension < len(was) else -1
    rows, _ = _common(before.get(column), getattr(data, column), made.shape[dimension], ours[dimension])
    if tuple(ours) != was or not rows:
        return made
    return made.model_copy(update={"column": column, "dimension": dimension, "kept": len(rows)})


def fill(model: "nn.Module", weights: Mapping[str, "Tensor"], without: Collection[str] = ()) -> None:
    """Set a model's tensors but for some.

    Raises:
        DataError: A tensor is missing, or has another shape.
    """
    import torch

    for names, tensor in tensors(model):
        if names[0] in without:
            continue
        found = next((weights[name] for name in names if name in weights), None)
        if found is None or found.shape != tensor.shape:
            has = "lack it" if found is None else f"have {list(found.shape)}"
            raise DataError(
                f"the model has {names[0]} {list(tensor.shape)}, and the weights {has}; were they made by "
                f"this generator and version?"
            )
        with torch.no_grad():
            tensor.copy_(found)


def carry_over(
    model: "nn.Module",
    weights: Mapping[str, "Tensor"],
    renewed: Collection[Renewed],
    before: Mapping[str, Column],
    data: Any,
) -> None:
    """Set the rows of classes and characters that both know."""
    import torch

    state = {names[0]: (names, tensor) for names, tensor in tensors(model)}
    for each in renewed:
        if not each.column:
            continue
        names, tensor = state[each.name]
        source = next(weights[name] for name in names if name in weights)
        to, out_of = _common(
            before[each.column],
            getattr(data, each.column),
            each.shape[each.dimension],
            source.shape[each.dimension],
        )
        with torch.no_grad():
            rows = source.index_select(each.dimension, torch.tensor(out_of))
            tensor.index_copy_(each.dimension, torch.tensor(to), rows.to(tensor.dtype))


def _common(
    before: Column | None, after: Column, rows: int, rows_before: int
) -> tuple[list[int], list[int]]:
    """The rows of entries that both columns have, in the new tensor and in the old; and those beside them."""
    old, new = _entries(before), _entries(after)
    beside = rows - len(new)
    if not old or beside < 0 or rows_before - len(old) != beside:
        return [], []
    index = {entry: row for row, entry in enumerate(old)}
    pairs = [(row, index[entry]) for row, entry in enumerate(new) if entry in index]
    pairs += [(len(new) + extra, len(old) + extra) for extra in range(beside)]
    return [row for row, _ in pairs], [row for _, row in pairs]


def _entries(column: Column | None) -> tuple[str, ...]:
    """The classes or the characters of a column; none where it is of another kind."""
    if isinstance(column, ClassColumn):
        return column.names
    return column.vocabulary if isinstance(column, TextColumn) else ()


def _with_one_more(data: Any, name: str) -> Any:
    """The facts of a dataset, with one more class or character in a column."""
    column: Any = getattr(data, name)
    field = "names" if isinstance(column, ClassColumn) else "vocabulary"
    known = getattr(column, field)
    other = next(chr(code) for code in range(0x10FFFF, 0, -1) if chr(code) not in known)
    wider = column.model_copy(update={field: (*known, other)})
    return data.model_copy(update={name: wider})


def _grown(shape: tuple[int, ...], wider: tuple[int, ...]) -> int | None:
    """The one dimension in which a shape is greater, by one; None where they differ otherwise, or not."""
    if len(shape) != len(wider):
        return None
    steps = [after - before for before, after in zip(shape, wider, strict=True)]
    return steps.index(1) if sorted(steps)[-1:] == [1] and sum(map(abs, steps)) == 1 else None
