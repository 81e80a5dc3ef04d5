"""The environment of this process, which those that it starts inherit."""

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager


@contextmanager
def holding(values: Mapping[str, str]) -> Generator[None]:
    """Let it hold some variables while a block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
