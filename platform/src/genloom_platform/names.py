"""Names: what a dataset, a run, a model or a job may be called."""

import re

from genloom.errors import RequestError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def identifier(kind: str, name: str) -> str:
    """The name itself, where it is an identifier: it becomes a folder, and must never be a path.

    Raises:
        RequestError: It is not.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise RequestError(
            f"{name!r} is no name for a {kind}: lower-case letters, digits and . _ - are, "
            f"starting with a letter or digit, at most 100 of them"
        )
    return name
