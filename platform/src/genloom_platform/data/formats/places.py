"""Where things lie in a source: which of its files a format reads, and how a file is named in a message."""

from genloom.errors import DataError, RequestError
from genloom.formats import Files


def named(files: Files, suffixes: tuple[str, ...], what: str) -> list[str]:
    """The files that a format reads: those with a suffix, or the only one there is, whatever its suffix.

    Sorted such that keys of the form "name:0001" sort alike.

    Raises:
        RequestError: There are several files and none has the suffix.
        DataError: All of them are empty.
    """
    chosen = [name for name in files.sizes if name.lower().endswith(suffixes)]
    if not chosen and len(files.sizes) == 1:
        chosen = list(files.sizes)
    if not chosen:
        raise RequestError(
            f"{files.url} holds no {what}; give a folder or an archive that does, or a file"
        )
    if not any(files.sizes[name] for name in chosen):
        raise DataError(f"{files.url} is empty; give a source with something in it")
    return sorted(chosen, key=lambda name: f"{name}:")


def where(files: Files, name: str) -> str:
    """A file of the source, for messages."""
    alone = list(files.sizes) == [name] and files.url.rstrip("/").endswith(name)
    return files.url if alone else f"{files.url.rstrip('/')}/{name}"
