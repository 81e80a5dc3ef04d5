"""`image-classifier`: LeNet, the convolutional network that names small pictures."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import genloom
from genloom import ClassColumn, Example, ImageColumn, Label, Loss, PromptError, Row
from genloom.augment import ImageAugment, mixup, one_hot
from genloom_image.pictures import HIGH, KINDS, LOW, Shape, fitted, shape_of

GROUPS = 4
"""Groups of feature maps that are normalised together; every width is a multiple of it."""


class LeNet(nn.Module):
    """Convolution, average pooling, convolution, average pooling, dense (LeCun et al. 1998, LeNet-5).

    Unlike the original, edges are padded so that small pictures work, feature maps are normalised by
    groups (Wu & He 2018), and units are rectified instead of squashed by tanh.
    """

    def __init__(self, shape: Shape, names: tuple[str, ...], width: int, dropout: float) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.names = names
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2),
            nn.GroupNorm(GROUPS, width),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(width, 2 * width, 5, padding=2),
            nn.GroupNorm(GROUPS, 2 * width),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * (height // 4) * (breadth // 4), 8 * width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(8 * width, len(names)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits [batch, classes]."""
        return self.layers(image)


def moved(image: Tensor, share: float) -> Tensor:
    """Pictures [batch, channels, height, width], each moved by up to a share of its edges.

    The pixels at the border fill what comes into view.
    """
    offset = (2 * torch.rand(len(image), 2, 1, device=image.device, dtype=image.dtype) - 1) * 2 * share
    still = torch.eye(2, device=image.device, dtype=image.dtype).expand(len(image), 2, 2)
    grid = F.affine_grid(torch.cat([still, offset], 2), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


class ImageClassifier(genloom.Predictor):
    """LeNet: names the class of a small picture (LeCun et al. 1998)."""

    contract = "1.0"

    width: int = Field(default=16, ge=GROUPS, le=512, multiple_of=GROUPS)
    """Feature maps of the first convolution; the second has twice as many, the dense layer 8 times."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the dense layer's units that are left out in training (Srivastava et al. 2014)."""

    shift: float = Field(default=0.1, ge=0, le=0.5)
    """How far a picture is moved at random in training, at most, as a share of its edges."""

    augment: ImageAugment = Field(default_factory=ImageAugment)
    """What is done to pictures in training, one at a time: `augment.flip=0.5 augment.crop=0.8`."""

    mixup: float = Field(default=0, ge=0)
    """Alpha of mixup: pictures of a batch are blended, and their classes alike (Zhang et al. 2018)."""

    class Data(genloom.Data):
        """Pictures of one size, each of a class."""

        image: ImageColumn
        label: ClassColumn

    class Prompt(genloom.Prompt):
        """A picture to name."""

        image: genloom.Image
        """It must have the size and the channels of the pictures that the model learnt from."""

    def build(self, data: Data) -> LeNet:
        """An untrained network for pictures and classes such as the dataset's."""
        return LeNet(shape_of(data.image), data.label.names, self.width, self.dropout)

    def prepare(self, row: Row, data: Data) -> Example:
        """Pixels of shape [channels, height, width], and the class where the row has one."""
        image = fitted(row["image"], data.image.channels)
        image = self.augment(image, row.rng) if row.training else image
        example: dict[str, Any] = {"image": image.to_chw(LOW, HIGH)}
        if "label" in row:
            example["label"] = int(row["label"])
        return example

    def loss(self, model: LeNet, batch: dict[str, Tensor]) -> Loss:
        """Cross-entropy in nats, and the share of pictures that are named rightly."""
        image = moved(batch["image"], self.shift) if model.training and self.shift else batch["image"]
        target: Tensor = batch["label"]
        if model.training and self.mixup:
            classes = one_hot(target, len(model.names))
            image, target = mixup(image, classes, self.mixup, torch.default_generator)
        logits = model(image)
        right = (logits.argmax(1) == batch["label"]).float().mean()
        return Loss(F.cross_entropy(logits.float(), target), {"accuracy": right})

    def predict(self, model: LeNet, batch: dict[str, Tensor]) -> Sequence[Label]:
        """The most probable class of each picture, with the probabilities of all."""
        answers: list[Label] = []
        for row in torch.softmax(model(batch["image"]).double(), 1).tolist():
            index = max(range(len(row)), key=row.__getitem__)
            answers.append(Label(index=index, name=model.names[index], probabilities=tuple(row)))
        return answers

    def check_prompt(self, prompt: Prompt, data: Data) -> None:
        """Refuse a picture of another size than the dataset's, or with colours that this has not."""
        channels, height, width = shape_of(data.image)
        given = prompt.image.array.shape
        if fitted(prompt.image, channels).array.shape != (height, width, channels):
            raise PromptError(
                f"image has {given[1]}x{given[0]} pixels {KINDS[given[2]]}: the model knows "
                f"pictures of {width}x{height} {KINDS[channels]}; resize or convert it to that"
            )
