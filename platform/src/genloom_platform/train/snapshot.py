"""A snapshot: a rank's state as named tensors in host memory, and back into an engine of any layout.

A part of a checkpoint is a safetensors file. Its tensors are named `<objective>|<parameter>|<key>`: the
elements of a parameter (key `weights`) or of its optimizer's state, flattened; the file's header says at
which element each starts. So nothing of a checkpoint is a pickle.
"""

import json
import struct
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from genloom.errors import TrainingError
from genloom_platform.train.holding import Held, Piece

WEIGHTS = "weights"
AVERAGE = "+average"
REST = "+rest"
SCALER = "+scaler of "
"""Groups beside the objectives, whose names begin with a letter."""
COUNTS = ("step", "mu_product", "eta", "mu")
"""Optimizers' keys that are one number, also where the parameter itself is one number."""
TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip
"""What safetensors calls them."""

State = dict[str, tuple[Tensor, int | None]]
"""Name → the tensor, and the parameter's element that it starts at (None where it is a value of its own)."""


class HostMemory:
    """Memory on the host that is used again for each snapshot."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def place(self, name: str, tensor: Tensor) -> Tensor:
        """Where a tensor of this name goes."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
            kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._kept[name] = kept
        return kept


class Copy:
    """A state on its way to host memory, beside the forward and backward passes of the next step.

    Mohan, Phanishayee and Chidambaram, CheckFreq: Frequent, Fine-Grained DNN Checkpointing, 2021: nothing but
    the next update changes the state, so only that has to wait for the copy.
    """

    def __init__(self, memory: HostMemory, state: State, fleeting: Container[str] = ()) -> None:
        """Begin to copy.

        Args:
            memory: Where to.
            state: Live tensors.
            fleeting: Names of those that more than an update may change; they are copied at once.
        """
        self.state: State = {n: (memory.place(n, t), start) for n, (t, start) in state.items()}
        self._copied = threading.Event()
        self._later: list[tuple[Tensor, Tensor]] = []
        self._event: Any = None
        pairs = {name: (self.state[name][0], tensor.detach()) for name, (tensor, _) in state.items()}
        for name, (host, live) in pairs.items():
            if name in fleeting:
                host.copy_(live, non_blocking=True)
        steady = [pair for name, pair in pairs.items() if name not in fleeting]
        self._later = [(host, live) for host, live in steady if not live.is_cuda]
        if torch.cuda.is_available():
            beside = torch.cuda.Stream()
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                for host, live in steady:
                    if live.is_cuda:
                        host.copy_(live, non_blocking=True)
            self._event = beside.record_event()

    def finish(self) -> None:
        """Copy what is left; then `state` is whole. Called in another thread than training's."""
        try:
            for host, live in self._later:
                host.copy_(live)
        finally:
            self._copied.set()
        if self._event:
            self._event.synchronize()

    def settle(self) -> None:
        """Wait until what it is copied from may change; on a GPU, let the stream of the training wait."""
        self._copied.wait()
        if self._event:
            torch.cuda.current_stream().wait_event(self._event)


def state_of(objective: str, held: Iterable[Held], rank: int, world: int) -> Iterator[tuple[str, Any]]:
    """What a rank saves of what it holds, as items of a `State`."""
    for flat in held:
        for piece in flat.pieces:
            part = piece.share(rank, world) if flat.whole else piece
            name = f"{objective}|{piece.name}"
            if part.numel:
                yield f"{name}|{WEIGHTS}", (_cut(flat.weights, part), part.start)
            for key, value in flat.state.items():
                if not isinstance(value, Tensor):
                    raise TrainingError(
                        f"the optimizer's state {key!r} of {piece.name} is a {type(value).__name__}; runs can "
                        f"be saved with optimizers whose state are tensors, as AdamW's"
                    )
                if value.shape != flat.tensor.shape or (not value.dim() and key in COUNTS):
                    yield f"{name}|{key}", (value, None)
                elif part.numel:
                    yield f"{name}|{key}", (_cut(value.view(-1), part), part.start)


def _cut(flat: Tensor, piece: Piece) -> Tensor:
    return flat.narrow(0, piece.offset, piece.numel)


def write(state: State, sink: Callable[[Any], Any]) -> None:
    """Write a state as a safetensors file, piece by piece, without a second copy of it."""
    starts = {name: start for name, (_, start) in state.items() if start is not None}
    header: dict[str, Any] = {"__metadata__": {"starts": json.dumps(starts)}}
    at = 0
    for name, (tensor, _) in state.items():
        size = tensor.numel() * tensor.element_size()
        entry = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape)}
        header[name] = {**entry, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    sink(struct.pack("<Q", len(text)) + text)
    for tensor, _ in state.values():
        if tensor.numel():
            values: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
            sink(memoryview(values))


@dataclass(frozen=True)
class _Source:
    """Where a tensor lies."""

    file: Any
    name: str
    start: int
    numel: int


class Parts:
    """The parts of a checkpoint, opened; by parameter and key, where every element is."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._slices: dict[tuple[str, str], list[_Source]] = {}
        self._values: dict[tuple[str, str], _Source] = {}
        self._keys: dict[str, set[str]] = {}
        for path in paths:
            file: Any = safe_open(path, framework="pt")  # type: ignore[no-untyped-call]
            starts: Mapping[str, int] = json.loads(file.metadata()["starts"])
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                parameter, _, key = name.rpartition("|")
                self._keys.setdefault(parameter, set()).add(key)
                if name in starts:
                    numel = file.get_slice(name).get_shape()[0]
                    source = _Source(file, name, starts[name], numel)
                    self._slices.setdefault((parameter, key), []).append(source)
                else:
                    self._values[parameter, key] = _Source(file, name, 0, 0)

    def fill(self, objective: str, held: Iterable[Held]) -> None:
        """Set flat tensors and the optimizer's states of them.

        Raises:
            TrainingError: The checkpoint lacks elements, or its optimizer's state cannot be cut so.
        """
        for flat in held:
            names = [f"{objective}|{piece.name}" for piece in flat.pieces]
            for name, piece in zip(names, flat.pieces, strict=True):
                self.read(name, WEIGHTS, piece, flat.weights)
            if flat.trained and names:
                self._fill_state(names, flat)

    def _fill_state(self, names: list[str], flat: Held) -> None:
        first = names[0]
        for key in sorted(self._keys.get(first, set()) - {WEIGHTS}):
            source = self._values.get((first, key))
            if source is None:
                values = flat.state.setdefault(key, torch.zeros_like(flat.tensor)).view(-1)
                for name, piece in zip(names, flat.pieces, strict=True):
                    self.read(name, key, piece, values)
                continue
            value = source.file.get_tensor(source.name)
            if value.numel() > 1 and not flat.whole:
                raise TrainingError(
                    f"the optimizer's state {key!r} belongs to whole parameters; go on at ZeRO stage 0"
                )
            flat.state[key] = value

    def read(self, parameter: str, key: str, piece: Piece, flat: Tensor) -> None:
        """Set the elements of a piece from wherever they lie."""
        found = 0
        for source in self._slices.get((parameter, key), []):
            first = max(source.start, piece.start)
            last = min(source.start + source.numel, piece.start + piece.numel)
            if first >= last:
                continue
            values = source.file.get_slice(source.name)[first - source.start : last - source.start]
            flat.narrow(0, piece.offset + first - piece.start, last - first).copy_(values)
            found += last - first
        if found != piece.numel:
            raise TrainingError(
                f"the checkpoint holds {found:,} of {piece.numel:,} elements of {parameter} ({key}); was it "
                f"made by this generator and version?"
            )

    def values(self, group: str) -> dict[str, Tensor]:
        """The values of a group by name, as they were saved."""
        found = {key: self._values[group, key] for key in self._keys.get(group, ())}
        return {key: source.file.get_tensor(source.name) for key, source in found.items()}
