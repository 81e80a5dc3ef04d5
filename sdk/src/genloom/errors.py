"""Every error that Genloom raises on purpose, as one tree.

    GenloomError                   exit status 1: the work failed
    ├── PluginError                a plugin that cannot be imported or breaks the contract
    ├── DataError                  a shard or source whose content is not what it claims to be
    ├── StoreError                 a store that cannot be read or written
    ├── TrainingError              a run that failed while it was training
    ├── EndpointError              an endpoint that refused or failed (carries the HTTP status)
    ├── ClusterError               a cluster that cannot be reached, or that lost a job
    └── RequestError               exit status 2: what was asked for is wrong, nothing was started
        ├── UnknownName            no generator, dataset, model … of that name; names the nearest
        ├── NameConflict           two packages claim one name
        ├── ContractMismatch       a plugin written for another contract version
        ├── WrongDataset           a dataset that lacks what the generator learns from
        ├── PromptError            a prompt that the model cannot answer
        └── InvalidConfig          all the errors of a configuration at once

A message states the value, the rule and the remedy. All errors survive pickling, so that they
cross from a worker to the driver whole.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


class GenloomError(Exception):
    """The base of all errors that Genloom raises on purpose."""

    exit_status: ClassVar[int] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the finished message and attributes, whatever arguments `__init__` takes."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[GenloomError], args: tuple[Any, ...], state: dict[str, Any]) -> GenloomError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class PluginError(GenloomError):
    """A plugin that cannot be imported, or that does not keep the contract."""


class DataError(GenloomError):
    """A shard or a source whose content is not what it claims to be."""


class StoreError(GenloomError):
    """A store that cannot be read or written."""


class TrainingError(GenloomError):
    """A run that failed while it was training."""


class EndpointError(GenloomError):
    """An endpoint that refused a request or failed to answer it.

    Attributes:
        status: The HTTP status, or 0 where no answer came.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ClusterError(GenloomError):
    """A cluster that cannot be reached, or that did not do what it was asked to."""


class RequestError(GenloomError):
    """What was asked for is wrong; nothing was started and nothing was written."""

    exit_status: ClassVar[int] = 2


class UnknownName(RequestError):
    """No thing of that kind has that name.

    Attributes:
        kind: What was looked for, as in "dataset".
        name: The name that was given.
        nearest: The known name closest to it, or None.
    """

    def __init__(
        self, kind: str, name: str, known: Iterable[str], remedy: str = "", *, limit: int = 8
    ) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
        self.kind, self.name = kind, name
        self.nearest = close[0] if close else None
        message = f"there is no {kind} {name!r}"
        if self.nearest:
            message += f"; did you mean {self.nearest!r}?"
        elif names:
            message += f"; there {'is' if len(names) == 1 else 'are'} {_listing(names, limit)}"
        else:
            message += "; there is none yet"
        super().__init__(f"{message}{f' ({remedy})' if remedy else ''}")


class NameConflict(RequestError):
    """Two installed packages claim one name."""


class ContractMismatch(RequestError):
    """A plugin was written for another version of the contract."""


class WrongDataset(RequestError):
    """A dataset lacks a column that the generator learns from, or has it in another kind."""


class PromptError(RequestError):
    """A prompt that the model cannot answer, such as a label that it has never seen."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a configuration."""

    where: str
    """The key, as it would be written on the command line."""
    value: str
    """What was given."""
    rule: str
    """What is asked of it."""
    remedy: str
    """What to write instead."""

    def __str__(self) -> str:
        given = f" = {self.value}" if self.value else ""
        return f"{self.where}{given}: {self.rule}; {self.remedy}"


class InvalidConfig(RequestError):
    """A configuration with one or more errors, all of them listed."""

    def __init__(self, subject: str, problems: Sequence[Problem]) -> None:
        self.subject = subject
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{subject} has {count} error{'s' if count != 1 else ''}"
        super().__init__("\n  ".join([head + ":", *map(str, self.problems)]))


def _listing(names: Sequence[str], limit: int) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
