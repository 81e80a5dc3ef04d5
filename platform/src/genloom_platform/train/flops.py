"""Model FLOPs: what a step has to compute, and what the device could at most.

Nothing is computed for it: the losses run on torch's meta device, where tensors have shapes and no values.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from genloom_platform.data.stream import Stream, local_batches, to_batch

PEAKS = {
    # Dense, from the vendor's data sheets: (bf16 and fp16, TF32), FLOPs a second.
    "B200": (2250e12, 1125e12),
    "H200": (989e12, 494e12),
    "H100 PCIe": (756e12, 378e12),
    "H100": (989e12, 494e12),
    "A100": (312e12, 156e12),
    "L40S": (362e12, 183e12),
    "L4": (121e12, 60e12),
    "A10": (125e12, 62.5e12),
    "V100": (125e12, 15.7e12),
    "T4": (65e12, 8.1e12),
    "RTX 4090": (165e12, 82.6e12),
    "RTX 3090": (71e12, 35.6e12),
}
"""By a part of the device's name; the first that fits counts."""


def peak(device: torch.device, precision: str) -> float:
    """FLOPs a second that a device reaches at most, in a run's precision; 0 where that is unknown."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return peak_of(name, precision)


def peak_of(name: str, precision: str) -> float:
    """The same of a device by its name."""
    half, full = next((peaks for part, peaks in PEAKS.items() if part in name), (0.0, 0.0))
    return full if precision == "fp32" else half


def of_a_step(stream: Stream, world: int) -> int:
    """FLOPs of one worker's share of a step, forward and backward, without what is computed again.

    Returns:
        Of all objectives and their repeats; 0 where the generator's code needs values, as in a loop that
        ends when a loss is small.
    """
    shares = local_batches(stream, 0, 1, 0, world)
    batch = {name: _on_meta(value) for name, value in to_batch(stream.trainable, next(shares)).items()}
    with torch.device("meta"):
        try:
            model = stream.trainable.build(stream.data)
            total = 0
            for objective in stream.trainable.objectives():
                with FlopCounterMode(display=False) as counter:
                    objective.loss(model, batch).value.backward()
                total += counter.get_total_flops() * objective.repeats
        except Exception as error:  # an author's code, which need not run without values
            print(f"the FLOPs of a step are unknown: {type(error).__name__}: {error}", flush=True)
            return 0
    return total


def _on_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value
