"""Patterns of parameters and modules, as in `layers.0`, `encoder.*` or `*.bias`."""

import difflib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

SHOWN = 6
"""Names that a message lists."""


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern fits a parameter or a module: its name, or that of a module around it."""
    return any(fnmatchcase(each, pattern) for each in _around(name))


def nearest(pattern: str, names: Iterable[str]) -> str:
    """What to write instead of a pattern that fits none of the names."""
    known = list(dict.fromkeys(each for name in names for each in sorted(_around(name), key=len)))
    close = difflib.get_close_matches(pattern, known, n=1, cutoff=0.7)
    if close:
        return f"did you mean {close[0]!r}?"
    shown = [name for name in known if not any(other.startswith(f"{name}.") for other in known)]
    more = f" and {len(shown) - SHOWN:,} more" if len(shown) > SHOWN else ""
    return f"there are {', '.join(shown[:SHOWN])}{more}"


def _around(name: str) -> Iterator[str]:
    """A dotted name, and the names of all that it lies in."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        yield ".".join(parts[:length])
