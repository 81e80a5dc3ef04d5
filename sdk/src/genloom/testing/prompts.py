"""Prompts to try a generator with, made from the rows and from what its `Prompt` accepts."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import numpy as np
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from genloom.prompt import Prompt
from genloom.samples import Audio, Image, Note, Notes, Sample
from genloom.testing.case import Case
from genloom.testing.rules import Broken

COUNT = 3
REMEDY = "give prompts that suit it: check(…, prompts=[{'field': value}, …])"


def example_prompts(case: Case, seed: int = 1) -> list[Any]:
    """Three prompts that differ in all that may differ, with seeds that follow each other.

    Fields that must be given are taken from the rows where a column has their name, else whatever
    they accept; those that may be left out are given in every other prompt.
    """
    if case.given_prompts is not None:
        return [
            _validated(case.cls.Prompt, {"seed": seed + number, **values})
            for number, values in enumerate(case.given_prompts)
        ]
    return [_example(case, case.rows[number % len(case.rows)], number, seed) for number in range(COUNT)]


def _example(case: Case, row: Mapping[str, Any], number: int, seed: int) -> Any:
    cls, values = case.cls.Prompt, dict[str, Any]()
    for name, field in cls.model_fields.items():
        offered = number % 2 and name in row and _fits(cls, name, row[name])
        if name != "seed" and (field.is_required() or offered):
            values[name] = _value(cls, name, field, row)
    return _validated(cls, {"seed": seed + number, **values})


def _validated(cls: type[Prompt], values: Mapping[str, Any]) -> Any:
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{item['loc'][0] if item['loc'] else 'all'}: {item['msg']}" for item in error.errors()
        )
        raise Broken(f"the kit's prompt {_shown(values)} is refused ({faults})", REMEDY) from error


def _value(cls: type[Prompt], name: str, field: FieldInfo, row: Mapping[str, Any]) -> Any:
    for candidate in _candidates(name, field, row):
        if _fits(cls, name, candidate):
            return candidate
    raise Broken(f"the kit knows no value for the prompt's field {name!r} ({field.annotation})", REMEDY)


def _candidates(name: str, field: FieldInfo, row: Mapping[str, Any]) -> Iterator[Any]:
    if name in row:
        yield row[name]
    for option in [field.annotation, *get_args(field.annotation)]:
        yield from get_args(option)
    yield from row.values()
    yield from (1, 0, 2, 4, 8, 16, 64, 0.5, "a", "hello", True)
    yield Image(np.full((16, 16, 1), 128, np.uint8))
    yield Audio(np.zeros((1, 4000), np.float32), 8000)
    yield Notes([Note(60, 0.0, 0.5)])


def _fits(cls: type[Prompt], name: str, value: Any) -> bool:
    """Whether a prompt accepts a field's value; what else it lacks does not matter here."""
    try:
        cls.model_validate({name: value})
    except ValidationError as error:
        return all(item["loc"][:1] != (name,) for item in error.errors())
    return True


def _shown(values: Mapping[str, Any]) -> str:
    return str(
        {
            name: type(value).__name__ if isinstance(value, Sample) else value
            for name, value in values.items()
        }
    )
