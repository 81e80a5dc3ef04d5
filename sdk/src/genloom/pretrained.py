"""Another registered model inside a generator: the first stage of a two-stage model, a teacher.

    class LatentPrior(Generator):
        codec: ModelName                                  # "image-vqvae@3"

        def build(self, data):
            codec = genloom.load_model(self.codec)
            return Prior(codec.module.requires_grad_(False), …)

The loaded module becomes a child of the model, so its weights travel with the new model's.
Objectives then train the other children.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import StringConstraints

from genloom.generator import Trainable
from genloom.platforms import local_platform

if TYPE_CHECKING:
    from torch import nn

ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*(@[a-z0-9]+)?$")]
"""A registered model: its name, or `name@version`, or `name@alias`."""


@dataclass(frozen=True)
class LoadedModel:
    """A registered model, ready to be called."""

    name: str
    """Name and version, as in "image-vae@3"."""
    trainable: Trainable
    """The generator or predictor, as it was configured."""
    module: "nn.Module"
    """The trained network, on the CPU, in evaluation mode."""
    data: Any
    """The facts of the dataset that it was trained on, as the generator's `Data`."""


def load_model(name: str) -> LoadedModel:
    """A registered model of the store that this process works with.

    Raises:
        UnknownName: No model has that name or version.
        GenloomError: The platform is not installed here.
    """
    return local_platform().load_model(name)
