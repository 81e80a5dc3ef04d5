"""A small convolutional network that names the class of a picture (LeCun et al. 1998).

Change `Net`, `loss` and `predict` to what you have in mind; `python -m pytest` says whether it still
works. Write it as for one processor: devices, several workers and checkpoints are not your concern.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import genloom
from genloom import ClassColumn, Example, ImageColumn, Label, Loss, PromptError, Row


class Net(nn.Module):
    """Pictures [batch, channels, height, width] to logits [batch, classes]. Layers go here."""

    def __init__(self, channels: int, names: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.names = names
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),  # pictures of any size from here on
            nn.Flatten(),
            nn.Linear(2 * width * 16, 128),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(128, len(names)),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits."""
        return self.layers(image)


class MyGenerator(genloom.Predictor):
    """Names the class of a small picture."""

    contract = "1.0"
    target = "label"

    # Fields are hyperparameters: `genloom train my-generator width=64` sets one, a sweep tries many.
    width: int = Field(default=32, ge=1)
    """Channels of the first convolution."""

    class Data(genloom.Data):
        """The columns that it learns from."""

        image: ImageColumn
        label: ClassColumn

    class Prompt(genloom.Prompt):
        """What a caller sends: a row of the dataset without its label."""

        image: genloom.Image
        """The picture to name, with as many channels as those of the dataset."""

    def build(self, data: Data) -> Net:
        """The network, untrained, for the channels and classes of the dataset."""
        return Net(data.image.channels, data.label.names, self.width)

    def prepare(self, row: Row, data: Data) -> Example:
        """One row as arrays and numbers; a caller's picture has no label. Augment with `row.rng`."""
        example: dict[str, Any] = {"image": row["image"].to_chw(-1, 1)}
        if "label" in row:
            example["label"] = int(row["label"])
        return example

    def loss(self, model: Net, batch: dict[str, Tensor]) -> Loss:
        """Cross-entropy in nats, and the share of pictures that are named rightly."""
        logits = model(batch["image"]).float()
        right = (logits.argmax(1) == batch["label"]).float().mean()
        return Loss(F.cross_entropy(logits, batch["label"]), {"accuracy": right})

    def predict(self, model: Net, batch: dict[str, Tensor]) -> Sequence[Label]:
        """The most probable class of each picture, and the probabilities of all."""
        answers: list[Label] = []
        for row in torch.softmax(model(batch["image"]).double(), 1).tolist():
            index = row.index(max(row))
            answers.append(Label(index=index, name=model.names[index], probabilities=tuple(row)))
        return answers

    def check_prompt(self, prompt: Prompt, data: Data) -> None:
        """Refuse a prompt that the model cannot answer."""
        given = prompt.image.array.shape[2]
        if given != data.image.channels:
            raise PromptError(f"image has {given} channels: give a picture of {data.image.channels}")
