"""What the fields of a prompt take, so that a route knows where a text or a picture belongs."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from genloom import Audio, Image, Notes, Prompt, Text

Takes = Literal["text", "image", "audio", "notes", "value"]
KINDS: dict[Any, Takes] = {str: "text", Text: "text", Image: "image", Audio: "audio", Notes: "notes"}


@dataclass(frozen=True)
class PromptField:
    """One field of a prompt."""

    takes: Takes
    """A free text, a medium, or any other value."""
    required: bool


def fields_of(prompt: type[Prompt]) -> Mapping[str, PromptField]:
    """The fields of a prompt by name, in their order."""
    return {
        name: PromptField(_takes(field.annotation), field.is_required())
        for name, field in prompt.model_fields.items()
    }


def _takes(annotation: Any) -> Takes:
    """`str | None` takes a text as well; a choice of several kinds is a value."""
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [each for each in get_args(annotation) if each is not types.NoneType]
        return _takes(inner[0]) if len(inner) == 1 else "value"
    return KINDS.get(annotation, "value")
