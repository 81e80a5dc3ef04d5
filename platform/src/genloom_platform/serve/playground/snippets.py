"""What is in a form as a line for a shell and as Python: the same request, to be run anywhere."""

import json
import re
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from genloom_platform.serve.catalog import ROUTES, Kind
from genloom_platform.serve.keys import VARIABLE

SUFFIXES = {"image": "png", "audio": "wav", "notes": "mid"}


@dataclass(frozen=True)
class File:
    """A file that a prompt holds: the snippets read it where they are run."""

    name: str
    sample: str
    """The class of `genloom` that reads it, as in `Image`."""


@dataclass(frozen=True)
class Question:
    """A request, as the snippets write it."""

    url: str
    kind: Kind
    model: str
    """Its id here."""
    prompts: Sequence[Mapping[str, Any]]
    """JSON with `File` in the place of media."""
    makes: str
    locked: bool


def curl(question: Question) -> str:
    """A command for a POSIX shell."""
    files: list[File] = []
    sign = secrets.token_hex(8)

    def mark(file: File) -> str:
        files.append(file)
        return f"{sign}.{len(files) - 1}."

    sent = {"model": question.model, "prompts": question.prompts}
    body = json.dumps(sent, ensure_ascii=False, default=mark)
    lines = [f"curl {shlex.quote(question.url + ROUTES[question.kind])}"]
    lines += [f'  -H "Authorization: Bearer ${VARIABLE}"'] if question.locked else []
    lines += ["  -H 'Content-Type: application/json'"]
    if not files:
        return " \\\n".join([*lines, f"  -d {shlex.quote(body)}"])
    body = re.sub(r"[\\$`]", r"\\\g<0>", body)  # else the shell would read them in the text as its own
    for index, file in enumerate(files):
        read = f"$(base64 < {shlex.quote(file.name)} | tr -d '\\n')"
        body = body.replace(f"{sign}.{index}.", read)
    return " \\\n".join([*lines, "  -d @- <<END"]) + f"\n{body}\nEND"


def python(question: Question) -> str:
    """Lines of Python with the SDK."""
    connected = f"genloom.connect({json.dumps(question.url)}"
    connected += f', key=os.environ["{VARIABLE}"])' if question.locked else ")"
    prompts = [_python(prompt) for prompt in question.prompts]
    verb = "generate" if question.kind == "generator" else "predict"
    if len(prompts) == 1 and all(name.isidentifier() for name in question.prompts[0]):
        given = ", ".join(f"{name}={_python(value)}" for name, value in question.prompts[0].items())
    elif all(prompt == prompts[0] for prompt in prompts):
        given = f"[{prompts[0]}] * {len(prompts)}"
    else:
        given = "[\n" + "".join(f"    {prompt},\n" for prompt in prompts) + "]"
    lines = ["import os"] if question.locked else []
    lines += ["from pathlib import Path"] if any(map(_holds_file, question.prompts)) else []
    lines += ["", "import genloom", ""] if lines else ["import genloom", ""]
    lines += [f"model = {connected}.models[{json.dumps(question.model)}]"]
    lines += [f"answers = model.{verb}({given})"]
    if question.kind == "generator" and question.makes in SUFFIXES:
        suffix = SUFFIXES[question.makes]
        lines += [
            "for number, sample in enumerate(answers):",
            f'    sample.save(f"{{number}}.{suffix}")',
        ]
    else:
        lines += ["print(*answers)"]
    return "\n".join(lines)


def _holds_file(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_file, cast(Mapping[str, Any], value).values()))
    return isinstance(value, File)


def _python(value: Any) -> str:
    if isinstance(value, File):
        return f"genloom.{value.sample}.from_bytes(Path({value.name!r}).read_bytes())"
    if isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value).items()
        return "{" + ", ".join(f"{json.dumps(name)}: {_python(inner)}" for name, inner in items) + "}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
