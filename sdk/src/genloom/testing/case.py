"""The subject of an examination: a class, its configuration, rows to learn from, models of it."""

import inspect
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from genloom.data import Data, Row
from genloom.generator import Batch, Example, Trainable
from genloom.objective import Objective
from genloom.testing import examples
from genloom.testing.rules import Broken

ROWS = 48
"""Example rows, where none are given."""
BATCH = 8
"""Rows of a batch."""
SEED = 7


@dataclass
class Case:
    """What the rules look at. Everything is made once, when the first rule asks for it."""

    cls: type[Trainable]
    given: Trainable | None = None
    """The configured subject, or None for the class's defaults."""
    given_rows: Sequence[Mapping[str, Any]] | None = None
    given_data: Data | None = None
    given_prompts: Sequence[Mapping[str, Any]] | None = None
    distributed: bool = True

    @property
    def file(self) -> str:
        """The file in which the class is written; empty where there is none."""
        try:
            return inspect.getsourcefile(self.cls) or ""
        except (OSError, TypeError):
            return ""

    @cached_property
    def trainable(self) -> Trainable:
        """The configured subject."""
        return self.given or self.cls()

    @cached_property
    def _setting(self) -> tuple[Sequence[Mapping[str, Any]], Any]:
        """Rows and their facts: the given ones, or the smallest examples that `build` accepts."""
        if self.given_rows is not None:
            return self.given_rows, self._facts(self.given_rows)
        smallest = None
        for size in range(len(examples.SIZES)):
            rows = examples.example_rows(self.cls.Data, ROWS, size)
            setting = rows, self._facts(rows)
            smallest = smallest or setting
            try:
                self.trainable.build(setting[1])
            except Exception:  # noqa: S112 - where all sizes are refused, the rule "build" tells why
                continue
            return setting
        assert smallest
        return smallest

    def _facts(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        if self.given_data is not None:
            return self.given_data
        return self.cls.Data.model_validate(examples.columns_of(self.cls.Data, rows))

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]:
        """The dataset."""
        return self._setting[0]

    @property
    def data(self) -> Any:
        """Its facts, as the class's own `Data`."""
        return self._setting[1]

    @cached_property
    def torch(self) -> Any:
        """The library that the model is made of, found on the model: the SDK itself imports none.

        It is needed for what has no other handle: the global generator's seed, and `no_grad`.
        """
        model = self.trainable.build(self.data)
        for cls in type(model).__mro__:
            if (cls.__module__, cls.__qualname__) == ("torch.nn.modules.module", "Module"):
                return sys.modules["torch"]
        raise Broken(f"build returned {type(model).__name__}", "return one torch.nn.Module")

    @contextmanager
    def seeded(self, seed: int) -> Generator[None]:
        """Torch's global generator under a seed; afterwards it is as it was."""
        with self.torch.random.fork_rng(devices=[]):
            self.torch.manual_seed(seed)
            yield

    def build(self, seed: int = SEED) -> Any:
        """A fresh model whose weights come from a seed."""
        with self.seeded(seed):
            return self.trainable.build(self.data)

    @cached_property
    def model(self) -> Any:
        """A fresh model as generation gets it: in evaluation mode."""
        return self.build().eval()

    def example(self, index: int, row: Mapping[str, Any] | None = None) -> Example:
        """One prepared row, under the row's own seed."""
        values = self.rows[index] if row is None else row
        return self.trainable.prepare(Row(values, (SEED, 0, index), training=True), self.data)

    def batch(self, count: int = BATCH) -> Batch:
        """A batch of the first rows."""
        return self.batch_of(range(count))

    def batch_of(self, places: Sequence[int]) -> Batch:
        """A batch of some rows, from the first again where they do not suffice."""
        wanted = [self.example(place % len(self.rows)) for place in places]
        return self.trainable.collate(travelled(wanted))

    def objective_parameters(self, model: Any, objective: Objective) -> dict[str, Any]:
        """The parameters that an objective trains, by name."""
        places = objective.parts or ("",)
        return {
            f"{place}.{name}".lstrip("."): parameter
            for place in places
            for name, parameter in model.get_submodule(place).named_parameters()
            if parameter.requires_grad
        }


def travelled(prepared: Sequence[Example]) -> list[Example]:
    """Examples as they reach the trainer from the workers that prepare them: as numpy arrays."""
    return [{name: np.asarray(value) for name, value in example.items()} for example in prepared]
