"""What a caller asks for, as prompts and as JSON; what cannot be asked is told before anything is sent."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, cast

from genloom.errors import RequestError
from genloom.prompt import MAX_SEED, Prompt
from genloom.samples import Sample

Asked = Prompt | Mapping[str, Any]
MAX_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


def prompts_of(
    prompts: Sequence[Asked] | None, count: int, fields: Mapping[str, Any]
) -> Sequence[Asked]:
    """The prompts of a request, which are listed or described by fields.

    Args:
        prompts: All of them; or
        count: how many there are of
        fields: the fields of one. Where these have a seed, each further prompt has the one after it.

    Raises:
        RequestError: Both are given, or no list, or a negative count.
    """
    if prompts is None:
        if count < 0:
            raise RequestError(f"count = {count}: there is no such number of samples; give 0 or more")
        seed = fields.get("seed")
        if not isinstance(seed, Integral):
            return [dict(fields)] * count
        return [{**fields, "seed": (int(seed) + n) % (MAX_SEED + 1)} for n in range(count)]
    if isinstance(prompts, (Prompt, Mapping, str)):
        raise RequestError(
            f"prompts = {_shown(prompts)}: it is no list; put it in [], or give its fields"
        )
    if fields or count != 1:
        others = ", ".join([*fields, *(["count"] if count != 1 else [])])
        raise RequestError(f"prompts and {others} are given: prompts say all; leave {others} out")
    return prompts


def prompt_of(prompt: Asked | None, fields: Mapping[str, Any]) -> Asked:
    """The one prompt of a request, which is given or described by fields.

    Raises:
        RequestError: Both are given.
    """
    if prompt is None:
        return fields
    if fields:
        others = ", ".join(fields)
        raise RequestError(f"a prompt and {others} are given: the prompt says all; leave {others} out")
    return prompt


def as_json(prompt: Asked) -> dict[str, Any]:
    """A prompt as JSON knows it.

    Raises:
        RequestError: A value of it has no form there.
    """
    if isinstance(prompt, Prompt):
        return prompt.model_dump(mode="json")
    return {name: _plain(value, name) for name, value in prompt.items()}


def _plain(value: Any, where: str) -> Any:
    """A value as JSON knows it: media as they are sent, also within lists and mappings."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, Sample):
        return value.to_json()
    if isinstance(value, Prompt):
        return as_json(value)
    if isinstance(value, Mapping):
        inner = cast(Mapping[str, Any], value)
        return {name: _plain(each, f"{where}.{name}") for name, each in inner.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each, f"{where}.{n}") for n, each in enumerate(cast(Sequence[Any], value))]
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    raise RequestError(
        f"{where} = {_shown(value)}: a {type(value).__name__} of this kind cannot be sent; "
        f"give a finite number, a text, a list, or a genloom.Image, Audio or Notes"
    )


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
