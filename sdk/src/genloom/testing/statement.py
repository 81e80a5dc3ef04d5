"""What the class states of itself: methods, contract version, configuration, columns, prompt."""

import inspect
import re
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from genloom.generator import CONTRACT, Generator, Predictor
from genloom.prompt import Prompt
from genloom.samples import Sample
from genloom.testing.case import Case
from genloom.testing.examples import kind_of
from genloom.testing.rules import Broken, Doubtful, NotRun, Rule, rule


@rule(
    "methods", "a class writes every method that the contract asks of it", "write the missing methods"
)
def methods(case: Case) -> str:
    """No abstract method is left."""
    missing = sorted(case.cls.__abstractmethods__)
    if missing:
        raise Broken(f"{case.cls.__name__} lacks {', '.join(missing)}")
    return ""


@rule(
    "contract version",
    "a class states the version of the contract that it was written for",
    f'write contract = "{CONTRACT}" in the class',
)
def contract(case: Case) -> str:
    """The version is one that this SDK speaks."""
    stated: Any = getattr(case.cls, "contract", None)
    if not isinstance(stated, str) or not re.fullmatch(r"\d+\.\d+", stated):
        raise Broken(f"contract is {stated!r}")
    major, minor = (int(part) for part in stated.split("."))
    ours = [int(part) for part in CONTRACT.split(".")]
    if major != ours[0] or minor > ours[1]:
        raise Broken(f"contract is {stated!r}, and this genloom speaks {CONTRACT}")
    return stated


@rule(
    "makes",
    "a Generator states what it makes, a Predictor the column that it predicts",
    "write makes = genloom.Image (or Text, Audio, Notes), or target = the name of a field of Data",
)
def makes(case: Case) -> str:
    """The kind of sample, or the target's column."""
    if issubclass(case.cls, Generator):
        made: Any = getattr(case.cls, "makes", None)
        if not (isinstance(made, type) and issubclass(made, Sample)) or made is Sample:
            raise Broken(f"makes is {made!r}")
        return made.__name__
    assert issubclass(case.cls, Predictor)
    if case.cls.target not in case.cls.Data.model_fields:
        raise Broken(
            f"target is {case.cls.target!r}, and Data has {', '.join(case.cls.Data.model_fields)}"
        )
    return case.cls.target


@rule(
    "configuration",
    "an instance is the whole configuration: frozen, and the same after its way through JSON",
    "give every field a default and a type that JSON can hold; leave model_config as it is",
    needs=("methods",),
)
def configuration(case: Case) -> str:
    """To JSON and back."""
    if case.given is None:
        required = [name for name, field in case.cls.model_fields.items() if field.is_required()]
        if required:
            raise Broken(
                f"no default for {', '.join(required)}",
                "give defaults, or give check() a configured instance",
            )
    if not case.cls.model_config.get("frozen"):
        raise Broken("the class can be changed after it is made", 'take "frozen" out of model_config')
    text = case.trainable.model_dump_json()
    back = case.cls.model_validate_json(text)
    if back != case.trainable:
        lost = [
            name
            for name in case.cls.model_fields
            if getattr(back, name) != getattr(case.trainable, name)
        ]
        raise Broken(f"after JSON, these fields differ: {', '.join(lost)}")
    case.cls.model_json_schema()
    return f"{len(case.cls.model_fields)} fields"


@rule(
    "fields explained",
    "each field of the configuration says what it is: forms and command lines show it",
    'write a """docstring""" under the field',
)
def fields(case: Case) -> str:
    """Docstrings under fields."""
    return _explained(case, case.cls, f"{case.cls.__name__} leaves unexplained")


@rule(
    "columns",
    "Data is a genloom.Data; each of its fields is a kind of column",
    "type the field genloom.ImageColumn, ClassColumn, TextColumn, AudioColumn …, with `| None = None` "
    "if the dataset may lack it",
)
def columns(case: Case) -> str:
    """Every field of `Data` is a column."""
    if not case.cls.Data.model_fields:
        raise Broken(
            "Data names no column",
            "write class Data(genloom.Data) inside, with a field for each column that it learns from",
        )
    for name, field in case.cls.Data.model_fields.items():
        if kind_of(field.annotation) is None:
            raise Broken(f"Data.{name} is typed {field.annotation}")
        if field.is_required() or field.default is None or field.default is PydanticUndefined:
            continue
        raise Broken(
            f"Data.{name} has the default {field.default!r}", "a column that may be absent is None"
        )
    return ", ".join(case.cls.Data.model_fields)


@rule(
    "prompt's fields",
    "Prompt is a genloom.Prompt, and each of its fields says what it is: it is the endpoint's schema",
    'write class Prompt(genloom.Prompt) inside, with a """docstring""" under each field',
)
def prompt_fields(case: Case) -> str:
    """A documented schema."""
    if not issubclass(case.cls.Prompt, Prompt):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Broken(f"Prompt is {case.cls.Prompt!r}")
    case.cls.Prompt.model_json_schema()
    try:
        return _explained(case, case.cls.Prompt, "Prompt leaves unexplained")
    except Doubtful as doubt:
        raise Broken(str(doubt)) from None


def _explained(case: Case, model: type[BaseModel], words: str) -> str:
    bare = [name for name, field in model.model_fields.items() if not field.description]
    if not bare:
        return f"{len(model.model_fields)} fields"
    try:
        inspect.getsource(model)
    except (OSError, TypeError):
        raise NotRun(
            f"the source of {case.cls.__name__} cannot be read, so its docstrings are unknown"
        ) from None
    raise Doubtful(f"{words} {', '.join(bare)}")


RULES: tuple[Rule, ...] = (methods, contract, makes, configuration, fields, columns, prompt_fields)
