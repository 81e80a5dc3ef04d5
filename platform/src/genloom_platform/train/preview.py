"""A look at a run before it starts: its parameters, and what its first batch holds."""

from dataclasses import dataclass

from genloom_platform.config import RunConfig
from genloom_platform.data import manifest as manifests
from genloom_platform.data.stream import Stream, local_batches, to_batch
from genloom_platform.store import Store


@dataclass(frozen=True)
class Preview:
    """What a run would be."""

    parameters: int
    shapes: dict[str, str]
    """Of one worker's share of the first batch, by name."""


def preview(store: Store, config: RunConfig) -> Preview:
    """Build the model and the first batch in this process; nothing is written."""
    manifest = manifests.load(store, config.data)
    trainable = config.trainable()
    stream = Stream(store, manifest, trainable, config.global_batch, config.seed)
    model = trainable.build(stream.data)
    batch = to_batch(trainable, next(local_batches(stream, 0, 1, 0, config.scale.most)))
    shapes = {
        name: f"{list(value.shape)} {value.dtype}" if hasattr(value, "shape") else type(value).__name__
        for name, value in batch.items()
    }
    return Preview(sum(parameter.numel() for parameter in model.parameters()), shapes)
