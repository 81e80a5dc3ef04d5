"""Published formats, one file each. `open_source` finds the reader of one.

A reader yields rows as they will be stored; it never holds the whole source in memory.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from genloom.data import Column
from genloom.errors import RequestError, UnknownName

FORMATS = {
    "cifar10": "CIFAR-10's binary or python archive, or the folder that it unpacks to",
    "digits": "scikit-learn's 1,797 handwritten digits of 8 × 8 pixels; needs no source",
    "text": "a text file, or a folder of .txt files",
}


@dataclass(frozen=True)
class Source:
    """A source that was opened: what it holds, and how to read it."""

    columns: Mapping[str, Column]
    rows: Callable[[], Iterator[tuple[str, dict[str, Any]]]]
    """Yields (split, row)."""
    source: str
    """Where it came from, for the provenance."""
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    """The options in force."""


def open_source(name: str, source: str | None, options: dict[str, Any]) -> Source:
    """Open a source in a named format.

    Raises:
        RequestError: There is no such format, source or option.
        DataError: The source is not in that format.
    """
    if name not in FORMATS:
        raise UnknownName("format", name, FORMATS)
    module = import_module(f"genloom_platform.data.formats.{name}")
    known: dict[str, Any] = module.OPTIONS
    for option in options:
        if option not in known:
            raise UnknownName(f"option of the format {name} named", option, known)
    if not module.NEEDS_SOURCE:
        if source is not None:
            raise RequestError(
                f"the format {name} brings its own data; leave the source {source!r} out"
            )
        return module.open_source({**known, **options})
    if source is None:
        raise RequestError(f"the format {name} reads {FORMATS[name]}; give its path")
    path = Path(source).expanduser()
    if not path.exists():
        raise RequestError(f"the source {source!r} does not exist; give the path of {FORMATS[name]}")
    return module.open_source(path, {**known, **options})
