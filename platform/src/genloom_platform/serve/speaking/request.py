"""How a request of OpenAI's API becomes prompts of a Genloom model.

These are the rules:

- A parameter goes to the field of the prompt that has its name. `max_tokens` goes to `max_chars` where a model
  counts characters; `size` goes to `width` and `height`.
- The text (or picture) of a request goes to the only field of the prompt that takes one, or to the only
  required one of several.
- A prompt without a field for text takes its fields as words instead, as in "label=3".
- A parameter without a field is refused, unless its value asks for nothing (`NEUTRAL`).
- `n` samples of one seed have that seed and the ones that follow it.
"""

import shlex
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from genloom.problems import problems_of
from genloom.prompt import MAX_SEED
from genloom_platform.serve.asking import MAX_PROMPTS
from genloom_platform.serve.body import FormText, as_object
from genloom_platform.serve.errors import MAX_SHOWN, Refusal, listed, told
from genloom_platform.serve.fields import Takes
from genloom_platform.serve.model import Card

Model = TypeVar("Model", bound=BaseModel)

ABOUT_THE_CALLER = frozenset({"user", "safety_identifier", "prompt_cache_key", "metadata"})
"""Parameters that tell of the caller and change no answer anywhere."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "background": ("auto",),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "input_fidelity": ("low",),
    "instructions": ("",),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": ("auto", "low"),
    "parallel_tool_calls": (True,),
    "partial_images": (0,),
    "presence_penalty": (0,),
    "quality": ("auto", "standard"),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "size": ("auto",),
    "speed": (1,),
    "store": (False,),
    "stream": (False,),
    "stream_format": ("audio",),
    "suffix": ("",),
    "temperature": (1,),
    "tools": ([],),
    "top_p": (1,),
    "voice": ("", "default"),
}
"""Values by which a client asks for what happens anyway; null is one everywhere."""
MAX_WORDS_CHARS = 4096
"""Of a text that stands for fields."""
LENGTHS = ("max_completion_tokens", "max_tokens", "max_chars")
"""Each of them goes to the first of these that the prompt has."""


def _listed(value: Any) -> Any:
    """One text as a list of one."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return cast(list[Any], value)
    raise ValueError("must be a text, or a list of texts; give one of them")


ONE_OR_MORE = BeforeValidator(_listed, json_schema_input_type=str | list[str])
"""For lists that may be one text: what is wrong is then told of one shape, and not of each."""


class Asked(BaseModel):
    """What all these requests share; further keys go to the fields of the model's prompt."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    model: str | None = None
    """Which model is asked; may be left out where only one fits."""
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    """Send it again for the same samples. Drawn where none is given; the answer tells it."""


class Several(Asked):
    """A request for one sample or several."""

    n: int | None = Field(default=None, ge=1, le=MAX_PROMPTS)
    """How many samples, of seeds that follow each other."""


def check_query(request: Request) -> None:
    """Raise Refusal where a request wishes by its query what only Genloom's own paths give."""
    for name in ("async", "stream", "format"):
        if name in request.query_params:
            message = (
                f"{name} = …: this path takes no query; leave it out, or ask /v1/generate for that"
            )
            raise Refusal(422, "unknown_parameter", message, param=name)


def as_model(shape: type[Model], value: Any) -> Model:
    """A body as its shape.

    Raises:
        Refusal: It has another one; all that is wrong is listed.
    """
    try:
        return shape.model_validate(as_object(value))
    except ValidationError as error:
        problems = listed(problems_of(error, shape))
        message = told("the request", problems)
        raise Refusal(422, "invalid_request", message, param=problems[0].where or None) from None


def from_form(card: Card, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a body holds as JSON would: the parts of a form are read by the fields that they are for."""
    return {
        name: value.value() if isinstance(value, FormText) and _takes(card, name) == "value" else value
        for name, value in fields.items()
    }


def prompt_of(card: Card, asked: Asked, own: Mapping[str, Any]) -> dict[str, Any]:
    """The prompt that the parameters of a request ask for.

    Args:
        card: The model that is asked.
        asked: The request.
        own: The parameters that the route itself sees to, each with the fields that it makes of it.

    Raises:
        Refusal: A parameter has no field, and its value asks for something.
    """
    prompt: dict[str, Any] = {}
    for fields in own.values():
        prompt |= fields or {}
    sent = {name: getattr(asked, name) for name in asked.model_fields_set}
    for name, value in sent.items():
        if value is None or name in own or name in ABOUT_THE_CALLER - set(card.fields):
            continue
        if name in ("model", "n"):
            continue
        target = name
        if name in LENGTHS:
            target = next((each for each in (name, *LENGTHS) if each in card.fields), name)
        if target in card.fields:
            prompt |= from_form(card, {target: value})
        elif name == "size" and {"width", "height"} <= set(card.fields) and value != "auto":
            prompt |= _size(value)
        elif _plain(value) not in NEUTRAL.get(name, ()):
            raise _without_field(card, name, value)
    return prompt


def check_count(param: str, given: int, n: int | None = None) -> None:
    """Raise Refusal where a request asks for too many answers, or for none: before its prompts are made."""
    count = given * (n or 1)
    if not 1 <= count <= MAX_PROMPTS:
        asks = f"{param} asks for" if n is None else f"{param} and n ask for"
        remedy = "send several requests" if count else "add one"
        message = f"{asks} {count:,} answers: a request takes 1 to {MAX_PROMPTS}; {remedy}"
        raise Refusal(422, "invalid_request", message, param=param)


def repeated(prompt: dict[str, Any], seed: int | None, n: int | None) -> list[dict[str, Any]]:
    """`n` prompts that differ in their seeds."""
    if seed is None:
        return [prompt] * (n or 1)
    return [prompt | {"seed": (seed + index) % (MAX_SEED + 1)} for index in range(n or 1)]


def text_fields(card: Card, param: str, text: str) -> dict[str, Any]:
    """The fields that a request's text fills.

    Raises:
        Refusal: The prompt takes no text, and the words are no fields of it; or several take one.
    """
    field = field_for(card, "text", param)
    return {field: text} if field else _words(card, param, text)


def field_for(card: Card, takes: Takes, param: str) -> str | None:
    """The field of a prompt that takes a text, a picture or a sound; None where none does.

    Raises:
        Refusal: There are several, and not exactly one of them is required.
    """
    fitting = [name for name, field in card.fields.items() if field.takes == takes]
    required = [name for name in fitting if card.fields[name].required]
    for names in (fitting, required):
        if len(names) == 1:
            return names[0]
    if not fitting:
        return None
    message = (
        f"{param} = …: {', '.join(fitting)} of {card.full_name} each take {takes}, and it is not clear which is "
        f"meant; send them to {'/v1/generate/' if card.kind == 'generator' else '/v1/predict/'}{card.name}"
    )
    raise Refusal(422, "ambiguous_parameter", message, param=param)


def _words(card: Card, param: str, text: str) -> dict[str, Any]:
    """The fields that are written as words: `label=3`."""
    try:
        # Where it is longer it is no list of fields, and splitting it would take long.
        words = shlex.split(text) if len(text) <= MAX_WORDS_CHARS else [""]
    except ValueError:
        words = [""]
    if not all("=" in word for word in words):
        message = (
            f"{param} = {text[:MAX_SHOWN]!r}: {card.full_name} takes no text; send '', or fields "
            f"of its prompt as in 'label=3': {_known(card)}"
        )
        raise Refusal(422, "invalid_prompt", message, param=param)
    pairs = [word.partition("=") for word in words]
    return {name: FormText(value).value() for name, _, value in pairs}


def _size(value: Any) -> dict[str, int]:
    width, _, height = str(value).partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        message = f"size = {str(value)[:MAX_SHOWN]!r}: it is no size; give WIDTHxHEIGHT, as in 64x64"
        raise Refusal(422, "invalid_request", message, param="size")
    return {"width": int(width), "height": int(height)}


def _without_field(card: Card, name: str, value: Any) -> Refusal:
    shown = repr(value)
    shown = shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}…"
    neutral = f" or give {to_json(NEUTRAL[name][-1]).decode()}" if name in NEUTRAL else ""
    message = (
        f"{name[:MAX_SHOWN]} = {shown}: the prompt of {card.full_name} has no such field; "
        f"leave it out{neutral}, or use {_known(card)}"
    )
    return Refusal(422, "unsupported_parameter", message, param=name[:MAX_SHOWN])


def _known(card: Card) -> str:
    return ", ".join(card.fields)


def _takes(card: Card, name: str) -> Takes:
    field = card.fields.get(name)
    return field.takes if field else "text"


def _plain(value: Any) -> Any:
    return value.value() if isinstance(value, FormText) else value


def plain_form(fields: Mapping[str, Any], shape: type[Asked]) -> dict[str, Any]:
    """A form's parts as JSON would hold them, as far as the route documents them."""
    texts = {"prompt", "model", "size", "response_format", "output_format"}
    return {
        name: value.value()
        if isinstance(value, FormText) and name in shape.model_fields and name not in texts
        else value
        for name, value in fields.items()
    }
