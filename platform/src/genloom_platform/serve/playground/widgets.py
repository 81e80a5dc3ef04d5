"""What a field of a form looks like, and how what stands in it is read."""

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import gradio as gr

from genloom_platform.serve.playground.fields import MEDIA, MISSING, Field
from genloom_platform.serve.playground.snippets import File

MEDIA_TYPES = {kind: media_type for media_type, kind in MEDIA.items()}
SAMPLES = {"image": "Image", "audio": "Audio", "notes": "Notes"}
MAX_SLIDER = 100_000
"""Above so many steps a slider cannot be set by hand."""
SHORT_CHARS = 80
"""A text that may not be longer has one line."""


def widget(field: Field) -> Any:
    """The part of the page that a field is filled in with."""
    default = None if field.default is MISSING else field.default
    label = field.path[-1].replace("_", " ") + (" *" if field.required else "")
    info = field.info or None
    match field.kind:
        case "integer" | "number":
            return _number(field, label, default)
        case "boolean":
            return gr.Checkbox(bool(default), label=label, info=info)
        case "choice":
            names = field.names or tuple(map(_shown, field.choices))
            choices = [(name, str(index)) for index, name in enumerate(names)]
            if not field.required and default not in field.choices:
                choices.insert(0, ("not set", ""))
            chosen = str(field.choices.index(default)) if default in field.choices else choices[0][1]
            return gr.Dropdown(
                choices, value=chosen, label=label, info=info, filterable=len(choices) > 8
            )
        case "text":
            lines = 1 if field.max_chars is not None and field.max_chars <= SHORT_CHARS else 3
            return gr.Textbox(default or "", label=label, info=info, lines=lines, max_lines=12)
        case "image":
            look: Any = {"height": 190, "buttons": [], "elem_classes": "upload"}
            return gr.Image(label=label, sources=["upload"], type="filepath", **look)
        case "audio":
            return gr.Audio(label=label, sources=["upload"], type="filepath", buttons=[])
        case "notes":
            return gr.File(label=label, file_types=[".mid", ".midi"], type="filepath", height=120)
        case "json":
            text = "" if default is None else str(default)
            return gr.Textbox(
                text, label=label, info=_with(info or "", "as JSON"), lines=2, max_lines=12
            )


def read(field: Field, raw: Any, named: bool = False) -> Any:
    """What stands in a field; a file as the JSON of an endpoint, or as `File` where only named."""
    if field.kind not in SAMPLES or not isinstance(raw, Mapping):
        return raw
    given = cast(Mapping[str, Any], raw)
    if not given.get("path"):
        return None
    path = Path(given["path"])
    if named:
        return File(given.get("orig_name") or path.name, SAMPLES[field.kind])
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return {"media_type": MEDIA_TYPES[field.kind], "data": data}


def _number(field: Field, label: str, default: Any) -> Any:
    whole = field.kind == "integer"
    low, high = field.low, field.high
    if low is not None and high is not None and default is not None and not field.required:
        step = 1 if whole else _step(high - low)
        steps = (high - low) / step
        if 1 < steps <= MAX_SLIDER:
            low, high = low + step * field.low_excluded, high - step * field.high_excluded
            return gr.Slider(
                low, high, value=default, step=step, label=label, info=field.info or None, buttons=[]
            )
    # A box for numbers would show 0 where nothing is given.
    text = "" if default is None else f"{default}"
    hint = field.bounds if field.required else f"not set; {field.bounds}".rstrip("; ")
    return gr.Textbox(
        text, label=label, info=field.info or None, placeholder=hint, lines=1, max_lines=1
    )


def _step(width: float) -> float:
    """A hundredth of a range or less, as a power of ten."""
    return 10.0 ** math.floor(math.log10(width / 100))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _with(text: str, more: str | None) -> str:
    return f"{text} ({more})" if text and more else text or more or ""
