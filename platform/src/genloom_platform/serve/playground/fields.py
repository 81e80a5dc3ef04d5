"""A prompt's JSON schema as the fields of a form, and what is in the form as a prompt again."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from genloom_platform.serve.model import Card

FieldKind = Literal["integer", "number", "boolean", "choice", "text", "image", "audio", "notes", "json"]
MEDIA: dict[str, FieldKind] = {"image/png": "image", "audio/wav": "audio", "audio/midi": "notes"}
PLAIN: dict[str, FieldKind] = {
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "string": "text",
}
MISSING = object()
"""The value of a field that a prompt leaves out."""


@dataclass(frozen=True)
class Field:
    """One field of a form."""

    path: tuple[str, ...]
    """Its name, after the names of the models that it lies within."""
    kind: FieldKind
    info: str
    """Its documentation."""
    default: Any
    """`MISSING` where there is none that the schema can tell."""
    required: bool
    low: float | None = None
    high: float | None = None
    low_excluded: bool = False
    high_excluded: bool = False
    choices: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()
    """What the choices are called, where they are classes of the dataset."""
    max_chars: int | None = None

    @property
    def name(self) -> str:
        """As a caller writes it."""
        return ".".join(self.path)

    @property
    def bounds(self) -> str:
        """The bounds of a number in words, or nothing."""
        low = "" if self.low is None else f"{'over' if self.low_excluded else 'from'} {self.low:g}"
        high = "" if self.high is None else f"{'below' if self.high_excluded else 'to'} {self.high:g}"
        return " ".join(filter(None, [low, high]))


class Unreadable(ValueError):
    """What stands in a field can be no value at all."""


def fields_of(card: Card) -> list[Field]:
    """The fields of a model's prompt but its seed, those of models within it one after the other.

    A number that has the name of a column of classes is a choice of one of these.
    """
    definitions = {f"#/components/schemas/{name}": each for name, each in card.definitions.items()}
    found = _walk(card.prompt_schema, definitions, ())
    return [_with_classes(field, card) for field in found if field.path != ("seed",)]


def prompt_of(values: Sequence[tuple[Field, Any]]) -> dict[str, Any]:
    """The prompt that a form holds; what is empty, or as it is by default, is left out.

    Args:
        values: Each field with what stands in it, media as JSON already.

    Raises:
        Unreadable: A text that should be JSON is none.
    """
    prompt: dict[str, Any] = {}
    for field, raw in values:
        value = value_of(field, raw)
        if value is MISSING or (not field.required and value == field.default):
            continue
        inner = prompt
        for name in field.path[:-1]:
            inner = inner.setdefault(name, {})
        inner[field.path[-1]] = value
    return prompt


def value_of(field: Field, raw: Any) -> Any:
    """What stands in a field as its value, `MISSING` where it is empty.

    Raises:
        Unreadable: A text that should be JSON is none.
    """
    if raw is None or (raw == "" and not (field.kind == "text" and field.required)):
        return "" if field.kind == "text" and isinstance(field.default, str) else MISSING
    if field.kind == "choice":
        return field.choices[int(raw)]
    if field.kind in ("integer", "number"):
        return number_of(raw)
    if field.kind == "json":
        try:
            return json.loads(raw)
        except ValueError as error:
            shown = str(raw)[:40]
            raise Unreadable(f"{field.name} = {shown}: it is no JSON ({error}); mend it") from None
    return raw


def number_of(raw: Any) -> Any:
    """A number, whole where it can be; what is none stays as it is, for the model to refuse."""
    try:
        number = float(raw)
    except ValueError:
        return raw
    if not math.isfinite(number):
        return raw
    return int(number) if number.is_integer() else number


def _walk(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[Field]:
    needed = cast(list[str], schema.get("required", []))
    for name, given in cast(dict[str, dict[str, Any]], schema.get("properties", {})).items():
        where, required = (*path, name), name in needed
        resolved, optional = _resolve(given, definitions)
        media = _media_type(resolved) in MEDIA
        if (
            "properties" in resolved
            and not (media or optional or "default" in resolved)
            and len(path) < 2
        ):
            yield from _walk(resolved, definitions, where)
        else:
            yield _field(where, resolved, required)


def _field(path: tuple[str, ...], schema: Mapping[str, Any], required: bool) -> Field:
    kind, choices = _kind(schema)
    excluded_low, excluded_high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    return Field(
        path=path,
        kind=kind,
        info=" ".join(str(schema.get("description", "")).split()),
        default=schema.get("default", MISSING),
        required=required,
        low=schema.get("minimum", excluded_low),
        high=schema.get("maximum", excluded_high),
        low_excluded=excluded_low is not None and "minimum" not in schema,
        high_excluded=excluded_high is not None and "maximum" not in schema,
        choices=choices,
        max_chars=schema.get("maxLength"),
    )


def _with_classes(field: Field, card: Card) -> Field:
    names = card.classes.get(field.name, ())
    if not names or field.kind != "integer":
        return field
    return replace(field, kind="choice", choices=tuple(range(len(names))), names=names)


def _kind(schema: Mapping[str, Any]) -> tuple[FieldKind, tuple[Any, ...]]:
    if "enum" in schema:
        return "choice", tuple(schema["enum"])
    if "const" in schema:
        return "choice", (schema["const"],)
    if schema.get("type") == "boolean" and schema.get("default", False) is None:
        return "choice", (True, False)  # a box that is ticked or not has no third state
    if (media := _media_type(schema)) in MEDIA:
        return MEDIA[media], ()
    return PLAIN.get(str(schema.get("type")), "json"), ()


def _media_type(schema: Mapping[str, Any]) -> str:
    properties = cast(dict[str, dict[str, Any]], schema.get("properties", {}))
    return str(properties.get("media_type", {}).get("const", "")) if "data" in properties else ""


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A schema without references, and whether null is a value too; of what it says twice, its own words win."""
    own = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf", "allOf")}
    if "$ref" in schema:
        inner, optional = _resolve(definitions[schema["$ref"]], definitions)
        return inner | own, optional
    for key in ("allOf", "anyOf"):
        options = cast(list[dict[str, Any]], schema.get(key, []))
        some = [option for option in options if option.get("type") != "null"]
        if len(some) == 1:
            inner, optional = _resolve(some[0], definitions)
            return inner | own, optional or len(some) < len(options)
    return dict(schema), False
