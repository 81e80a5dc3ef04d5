"""What the models of this package agree on: the pictures that they take, the labels, the seeds.

Pixels lie between -1 (black) and 1 (white). A dataset without labels counts as one class, 0, so that
the networks need no second form.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from genloom import ClassColumn, Example, Image, ImageColumn, PromptError, Row
from genloom.errors import WrongDataset

LOW, HIGH = -1.0, 1.0
"""The values of black and of white."""
MIN_SIDE = 8
"""The smallest edge in pixels."""

Shape = tuple[int, int, int]
"""Channels, height and width."""


KINDS = {1: "in grey", 3: "in colour", 4: "in colour and opacity"}
"""Channels in words."""


class LabelPrompt(Protocol):
    """A prompt that may name a class."""

    @property
    def seed(self) -> int:
        """What its sample is drawn from."""
        ...

    @property
    def label(self) -> int | None:
        """The class, or None for any."""
        ...


def fitted(image: Image, channels: int) -> Image:
    """A picture with so many channels, where it loses nothing by that; else as it is.

    Many programs save grey pictures in colour, and opaque ones with their opacity.
    """
    array = image.array
    if array.shape[2] == channels:
        return image
    if array.shape[2] == 4 and (array[:, :, 3] == 255).all():
        array = array[:, :, :3]
    if channels == 1 and array.shape[2] == 3 and (array == array[:, :, :1]).all():
        array = array[:, :, :1]
    elif channels == 3 and array.shape[2] == 1:
        array = array.repeat(3, axis=2)
    return Image(array)


def shape_of(image: ImageColumn) -> Shape:
    """The shape that all pictures of a column have.

    Raises:
        WrongDataset: Sizes differ, or an edge is too short or cannot be halved twice.
    """
    if image.height is None or image.width is None:
        raise WrongDataset(
            "the pictures of column 'image' differ in size, and all must have one; "
            "import the dataset again with one height and width"
        )
    for edge, pixels in (("height", image.height), ("width", image.width)):
        if pixels < MIN_SIDE or pixels % 4:
            nearest = max(MIN_SIDE, round(pixels / 4) * 4)
            raise WrongDataset(
                f"image.{edge} = {pixels}: it must be a multiple of 4, {MIN_SIDE} or more; "
                f"import the dataset again with {edge} {nearest}"
            )
    return image.channels, image.height, image.width


def num_classes(label: ClassColumn | None) -> int:
    """How many classes a network distinguishes: 1 where there are no labels."""
    return len(label.names) if label else 1


def labelled_example(row: Row, label: ClassColumn | None) -> Example:
    """A row as pixels of shape [channels, height, width], float32, and a class."""
    return {"image": row["image"].to_chw(LOW, HIGH), "label": int(row["label"]) if label else 0}


def check_label(prompt: LabelPrompt, label: ClassColumn | None) -> None:
    """Refuse a prompt for a class that the dataset lacks.

    Raises:
        PromptError: The label is beyond the classes, or there are no labels at all.
    """
    if prompt.label is None:
        return
    if label is None:
        raise PromptError(
            f"label = {prompt.label}: the model learnt from pictures without labels; leave label out"
        )
    if prompt.label >= len(label.names):
        raise PromptError(
            f"label = {prompt.label}: the model knows {len(label.names)} classes; "
            f"give 0 to {len(label.names) - 1}, or leave label out for any of them"
        )


def draw_latents(
    prompts: Sequence[LabelPrompt], latent: int, classes: int, like: Tensor
) -> tuple[Tensor, Tensor]:
    """The noise and the label of each prompt, from its seed alone.

    The noise is drawn on the CPU, so that a seed means the same on every device; and before the
    label, so that it stays the same whether the label is given or drawn.

    Args:
        prompts: What is asked.
        latent: Normal numbers for each prompt.
        classes: As `num_classes` tells.
        like: A weight of the model: its device and type become the noise's.

    Returns:
        Noise, [prompts, latent], and labels, [prompts].
    """
    noise: list[Tensor] = []
    labels: list[int] = []
    for prompt in prompts:
        source = torch.Generator().manual_seed(prompt.seed)
        noise.append(torch.randn(latent, generator=source))
        drawn = int(torch.randint(classes, (), generator=source))
        labels.append(drawn if prompt.label is None else prompt.label)
    return torch.stack(noise).to(like), torch.tensor(labels, device=like.device)
