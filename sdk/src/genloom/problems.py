"""Pydantic's validation errors as `Problem`s: the value, the rule and the remedy, in plain words."""

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError

from genloom.errors import Problem

MAX_LISTED = 1000
"""Errors that are worth a list; telling half a million of them takes longer than anyone waits."""


def problems_of(error: ValidationError, model: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Every error of a validation, or how many; `prefix` is where the model sits in the configuration."""
    if (count := error.error_count()) > MAX_LISTED:
        return [
            Problem(prefix or "it", "", f"there are {count:,} errors", "compare it with its schema")
        ]
    return [_problem(item, model, prefix) for item in error.errors(include_url=False)]


def _problem(item: Any, model: type[BaseModel], prefix: str) -> Problem:
    path = [str(part) for part in item["loc"]]
    where = ".".join([*([prefix] if prefix else []), *path]) or "it"
    if item["type"] == "extra_forbidden":
        known = fields_at(model, path[:-1])
        close = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        others = f"known are {', '.join(known)}" if known else "leave it out"
        remedy = f"did you mean {close[0]!r}?" if close else others
        return Problem(where, repr(item["input"]), "there is no such key", remedy)
    if item["type"] == "missing":
        return Problem(where, "", "is required and missing", f"add {where}=…")
    if item["type"] in ("too_short", "too_long"):
        return Problem(where, repr(item["input"]), *_of_length(item["ctx"], "entry", "entries"))
    if item["type"] in ("string_too_short", "string_too_long"):
        bounds = item["ctx"] | {"actual_length": len(item["input"])}
        return Problem(where, repr(item["input"]), *_of_length(bounds, "character", "characters"))
    if item["type"] in ("dict_type", "mapping_type", "model_type", "model_attributes_type"):
        known = fields_at(model, path)
        remedy = f"known are {', '.join(known)}" if known else "name its values"
        return Problem(where, repr(item["input"]), "must be a dictionary with named fields", remedy)
    if item["type"] in ("literal_error", "enum"):
        remedy = f"give {item['ctx']['expected']}"
        return Problem(where, repr(item["input"]), "there is no such value", remedy)
    rule = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if item["type"] == "value_error":  # a sentence of ours, which may end with its remedy
        rule, _, remedy = rule.rpartition("; ") if "; " in rule else (rule, "", "")
        return Problem(where, repr(item["input"]), rule, remedy or "change it")
    return Problem(where, repr(item["input"]), rule, _remedy(item))


def _of_length(bounds: Any, one: str, several: str) -> tuple[str, str]:
    """What is asked of how many entries or characters there are, and what to do."""
    most, least = bounds.get("max_length"), bounds.get("min_length")
    actual, limit = bounds["actual_length"], least if most is None else most
    things = one if limit == 1 else several
    if most is None:
        return (
            f"must have at least {limit} {things}, and has {actual}",
            f"add {limit - actual} or more",
        )
    return f"must have at most {limit} {things}, and has {actual}", f"leave {actual - limit} out"


def _remedy(item: Any) -> str:
    """What to write instead, from the bound that was broken."""
    bounds = item.get("ctx", {})
    for bound, words in (
        ("ge", "give {} or more"),
        ("gt", "give more than {}"),
        ("le", "give {} or less"),
        ("lt", "give less than {}"),
        ("multiple_of", "give a multiple of {}"),
    ):
        if bound in bounds:
            return words.format(bounds[bound])
    kinds = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "string": "text",
        "list": "a list",
        "tuple": "a list",
    }
    for kind, words in kinds.items():
        if item["type"].startswith(kind):
            return f"give {words}"
    return "change it"


def fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """The field names of the model that lies at a path of field names."""
    here: Any = model
    for part in path:
        if part.isdecimal():  # a place in a list of them
            continue
        field = here.model_fields.get(part) if _is_model(here) else None
        here = next(filter(_is_model, _types_of(field.annotation)), None) if field else None
    return sorted(_stated(*item) for item in here.model_fields.items()) if _is_model(here) else []


def _stated(name: str, field: Any) -> str:
    """A field's name as it is written, which its alias is where it has one."""
    return str(getattr(field.validation_alias, "choices", [name])[0])


def _types_of(annotation: Any) -> list[Any]:
    return [annotation, *getattr(annotation, "__args__", ())]


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)
