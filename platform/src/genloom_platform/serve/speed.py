"""How fast a model is to answer, and at what price: precision, compilation, device, warm-up.

`apply` changes a loaded model; nothing else has to know. `evaluate/speed.py` measures what it gains and costs.
"""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import Field, PositiveInt, ValidationError

from genloom import Audio, Image, LoadedModel, Note, Notes
from genloom.data import (
    AudioColumn,
    ClassColumn,
    IdColumn,
    ImageColumn,
    NotesColumn,
    NumberColumn,
    TextColumn,
)
from genloom.errors import RequestError
from genloom_platform.serve.model import served
from genloom_platform.settings import Settings

if TYPE_CHECKING:
    from torch import nn

Precision = Literal["fp32", "bf16", "int8"]
MAX_SIDE = 64
"""The edge of a made-up picture where the model takes any size."""
LARGEST = 64
"""The largest batch that a compiled model is warmed up with; a replica's is no larger."""

log = logging.getLogger("genloom.serve")


class Speed(Settings):
    """What a deployment does for speed; by default what training gave, as it is."""

    precision: Precision = "fp32"
    """bf16: weights and sums in bfloat16. int8: weights of linear layers in 8 bits, for a CPU; each batch is
    scaled by its largest number, so that a sample may differ with what else is in the batch."""
    compile: bool = False
    """Compile the network (torch.compile) before the first request, which takes up to minutes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU that the replica was given, where it was given one."""
    batches: tuple[PositiveInt, ...] | None = None
    """Batch sizes to warm up with. None: 1, and for a compiled model every power of two up to 64."""
    prompt: dict[str, Any] = Field(default_factory=dict)
    """Fields of the warm-up's prompts; one that must be given and is no column of the dataset has to be here."""

    @property
    def name(self) -> str:
        """As it is written down: `bf16`, `fp32-compile`."""
        return f"{self.precision}-compile" if self.compile else self.precision

    @property
    def is_plain(self) -> bool:
        """Whether it leaves the network as training gave it."""
        return self.name == "fp32"

    @property
    def warm_batches(self) -> tuple[int, ...]:
        """The sizes to warm up with, the largest first: kernels for it serve most of the smaller ones."""
        if self.batches is not None:
            return tuple(sorted(set(self.batches), reverse=True))
        return tuple(2**n for n in range(LARGEST.bit_length() - 1, -1, -1)) if self.compile else (1,)


def apply(loaded: LoadedModel, speed: Speed) -> LoadedModel:
    """A model as a deployment wants it, tried and warmed up; the given one is used up by it.

    Call it in the process that serves, after its number of threads is set: kernels are made for that.

    Raises:
        RequestError: The model or the machine cannot do it; says what can.
    """
    device = _device(speed)
    module = _in_precision(loaded, speed, device)
    made = replace(loaded, module=module)
    try:
        asked = prompts(made, max(speed.warm_batches, default=1), speed.prompt)
        entries = _entries(module, lambda: answers(made, asked[:1]))
    except Exception as error:
        # A model may rightly refuse a prompt that was made up; served as it is, it does not depend on it.
        if not speed.is_plain:
            raise _unfit(loaded, speed, error) from error
        log.warning("%s is served without a warm-up: %s", loaded.name, type(error).__name__)
        return made
    if speed.compile:
        if not entries:
            raise RequestError(
                f"compile: {loaded.name} calls no layer of its network as a whole; serve it without"
            )
        for entry in entries:
            entry.compile(dynamic=True)
    try:
        for size in speed.warm_batches:
            answers(made, asked[:size])
    except Exception as error:
        raise _unfit(loaded, speed, error) from error
    return made


def answers(loaded: LoadedModel, asked: Sequence[Any]) -> list[Any]:
    """What a model makes of a batch of prompts, as an endpoint asks it; raises where one fails."""
    found = served(loaded, 0).compute(asked)
    for answer in found:
        if isinstance(answer, Exception):
            raise answer
    return found


def prompts(
    loaded: LoadedModel,
    count: int,
    given: Mapping[str, Any] | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
) -> list[Any]:
    """Prompts with the seeds 0, 1, 2 …; a field that must be given is taken from rows, or made up of the facts.

    Raises:
        RequestError: A field that must be given is neither in `given` nor a column of the dataset.
    """
    kind, facts = loaded.trainable.Prompt, dict(loaded.data or ())
    needed = {name for name, field in kind.model_fields.items() if field.is_required()}
    made_up = {name: _blank(column) for name, column in facts.items() if name in needed and column}
    found: list[Any] = []
    for number in range(count):
        row = rows[number % len(rows)] if rows else {}
        of_row = {name: row[name] for name in needed if name in row}
        values = made_up | of_row | dict(given or {}) | {"seed": number}
        try:
            prompt = kind.model_validate(values)
        except ValidationError as error:
            fields = ", ".join(sorted({str(each["loc"][0]) for each in error.errors() if each["loc"]}))
            raise RequestError(
                f"no prompt can be made up for {loaded.name}: {fields} must be given and is no column of its "
                f"dataset; give a value, as in speed.prompt"
            ) from error
        loaded.trainable.check_prompt(prompt, loaded.data)
        found.append(prompt)
    return found


def _device(speed: Speed) -> str:
    import torch

    there = torch.cuda.is_available()
    if speed.device == "cuda" and not there:
        raise RequestError(
            "device = cuda: this process has no GPU; give the replica one, or device = cpu"
        )
    device = "cuda" if there and speed.device != "cpu" else "cpu"
    if device == "cuda" and speed.precision == "int8":
        raise RequestError(
            "precision = int8: its linear layers are computed on a CPU; give bf16 on a GPU, or device = cpu"
        )
    return device


def _in_precision(loaded: LoadedModel, speed: Speed, device: str) -> Any:
    import torch
    from torch import nn
    from torch.ao.nn.quantized import dynamic

    module = loaded.module.to(device)
    if speed.precision == "bf16":
        module = module.to(torch.bfloat16)
        for layer in module.modules():
            if next(layer.parameters(recurse=False), None) is not None:
                layer.register_forward_pre_hook(_to_bfloat16, with_kwargs=True)
    if speed.precision == "int8":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch tells of torchao, which is slower on a CPU
            quantized = torch.ao.quantization.quantize_dynamic(  # pyright: ignore[reportDeprecated]
                module, {nn.Linear}, dtype=torch.qint8
            )
        if not any(isinstance(each, dynamic.Linear) for each in quantized.modules()):
            raise RequestError(
                f"precision = int8: {loaded.name} has no linear layer to make smaller; give fp32 or bf16"
            )
        module = quantized
    return module.eval()


def _to_bfloat16(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """What goes into a layer, in the precision of its weights: prompts and noise are drawn in fp32."""
    return tuple(map(_halved, args)), {name: _halved(value) for name, value in kwargs.items()}


def _halved(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(torch.bfloat16) if value.is_floating_point() else value
    if isinstance(value, tuple):  # the state of an LSTM
        return tuple(map(_halved, cast(tuple[Any, ...], value)))
    return value


def _entries(module: "nn.Module", call: Callable[[], object]) -> list["nn.Module"]:
    """The parts of a network that a call enters from outside: an author may call any child of it."""
    found: list[nn.Module] = []
    depth = 0

    def enter(part: Any, _: Any) -> None:
        nonlocal depth
        if not depth and part not in found:
            found.append(part)
        depth += 1

    def leave(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    hooks: list[Any] = []
    for part in module.modules():
        hooks.append(part.register_forward_pre_hook(enter))
        hooks.append(part.register_forward_hook(leave, always_call=True))
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _unfit(loaded: LoadedModel, speed: Speed, error: Exception) -> RequestError:
    why = " ".join(str(error).split())[:300]
    return RequestError(
        f"{loaded.name} does not work with {speed.name}: {type(error).__name__}: {why}; serve it in fp32, "
        f"not compiled"
    )


def _blank(column: Any) -> Any:
    """The plainest value that a column may hold."""
    import numpy as np

    match column:
        case ImageColumn():
            shape = (column.height or MAX_SIDE, column.width or MAX_SIDE, column.channels)
            return Image(np.zeros(shape, np.uint8))
        case AudioColumn():
            samples = max(1, int(column.rate_hz * min(column.max_s, 1)))
            return Audio(np.zeros((column.channels, samples), np.float32), column.rate_hz)
        case NotesColumn():
            return Notes([Note(60, 0.0, 0.5)])
        case TextColumn():
            return column.vocabulary[0] if column.vocabulary else "a"
        case ClassColumn() | IdColumn():
            return 0
        case NumberColumn():
            return column.minimum
        case _:
            return np.zeros(column.shape, column.dtype)
