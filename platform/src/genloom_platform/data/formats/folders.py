"""Folders of files, as in `<class>/x.jpg` or `<split>/<class>/x.jpg`: which split and class a file has.

A folder that holds everything is passed over, since archives often have one. So a single class folder
counts as no class: it tells nothing apart.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from genloom import ClassColumn
from genloom.data import Column
from genloom.errors import DataError
from genloom.formats import BadRow, Files, SourceRow, Unit

SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
"""Folder, in any case → split."""
CONTENT_BYTES = 1 << 20
"""How much of a bad file goes with its BadRow."""


@dataclass(frozen=True)
class Folders:
    """How the files of a source lie in folders."""

    top: int
    """Characters of the folder that holds all of them, with its slash."""
    has_splits: bool
    classes: tuple[str, ...]
    """Sorted; none where there are no class folders."""

    def place_of(self, name: str) -> tuple[str | None, int | None]:
        """The split and the class of a file; raises ValueError where it lies outside of both."""
        folders = name[self.top :].split("/")[:-1]
        split = None
        if self.has_splits:
            if not folders:
                raise ValueError("the file lies outside of the folders that name splits")
            split = SPLITS[folders.pop(0).lower()]
        if not self.classes:
            return split, None
        if not folders:
            raise ValueError("the file lies in no class folder")
        return split, self._indices[folders[0]]

    def label_columns(self) -> dict[str, Column]:
        """The column `label`, or none."""
        return {"label": ClassColumn(names=self.classes)} if self.classes else {}

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}


def folders_of(
    files: Files, suffixes: tuple[str, ...], what: str, others: tuple[str, ...] = ()
) -> Folders:
    """How the files with a suffix lie in folders; those of `others` are looked at beside them.

    Raises:
        DataError: There are none, or folders that name splits stand beside others.
    """
    if not any(name.lower().endswith(suffixes) for name in files.sizes):
        raise DataError(
            f"{files.url} holds no {what} ({', '.join(suffixes)}) but {_found(files)}; give a folder or an "
            f"archive that holds some"
        )
    names = [name for name in files.sizes if name.lower().endswith(suffixes + others)]
    top = _top(names)
    first = {name[top:].partition("/")[0] for name in names if "/" in name[top:]}
    has_splits = bool(first) and all(name.lower() in SPLITS for name in first)
    if not has_splits and len({SPLITS.get(name.lower()) for name in first} - {None}) > 1:
        beside = sorted(name for name in first if name.lower() not in SPLITS)
        raise DataError(
            f"{files.url} holds {', '.join(beside[:5])} beside folders that name splits; move out what "
            f"belongs to no split, or rename what is a class"
        )
    depth = 1 if has_splits else 0
    parts = (name[top:].split("/", depth + 1) for name in names)
    classes = {part[depth] for part in parts if len(part) > depth + 1}
    return Folders(top, has_splits, tuple(sorted(classes)) if len(classes) > 1 else ())


def rows_of(
    folders: Folders, files: Files, unit: Unit, column: str, read: Callable[[str], Any]
) -> Iterator[SourceRow | BadRow]:
    """A row for each file of a unit; bad where `read` raises ValueError."""
    for name in unit.files:
        try:
            split, label = folders.place_of(name)
            values: Mapping[str, Any] = {column: read(name)}
        except ValueError as error:
            with files.open(name) as file:
                yield BadRow(name, str(error), file.read(CONTENT_BYTES))
            continue
        yield SourceRow(name, values if label is None else {**values, "label": label}, split)


def _top(names: Sequence[str]) -> int:
    """Characters of the folders that all names have in common, as far as they name no split."""
    first, last = min(names), max(names)  # what these two begin with, all in between do
    top = 0
    for ours, theirs in zip(first.split("/")[:-1], last.split("/")[:-1], strict=False):
        if ours != theirs or ours.lower() in SPLITS:
            break
        top += len(ours) + 1
    return top


def _found(files: Files) -> str:
    """What a source holds, by suffix, for messages."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "without suffix" for name in files.sizes)
    shown = ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common(5))
    return f"{shown} {'files' if len(files.sizes) != 1 else 'file'}" if shown else "no file at all"
