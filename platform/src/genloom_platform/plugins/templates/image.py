"""A variational autoencoder that draws small pictures (Kingma & Welling 2014).

Change `Net`, `loss` and `generate` to what you have in mind; `python -m pytest` says whether it still
works. Write it as for one processor: devices, several workers and checkpoints are not your concern.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

import genloom
from genloom import ClassColumn, Example, Image, ImageColumn, Loss, PromptError, Row
from genloom.errors import WrongDataset


class Net(nn.Module):
    """Pictures to latent numbers, and back to pictures. Layers go here."""

    def __init__(self, shape: tuple[int, int, int], classes: int, latent: int, width: int) -> None:
        super().__init__()
        channels, height, breadth = shape
        rows, columns = height // 4, breadth // 4
        self.latent, self.classes = latent, classes
        self.label = nn.Embedding(classes, width)
        self.down = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.code = nn.Linear(2 * width * rows * columns + width, 2 * latent)
        self.up = nn.Sequential(
            nn.Linear(latent + width, 2 * width * rows * columns),
            nn.SiLU(),
            nn.Unflatten(1, (2 * width, rows, columns)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        )
        self.log_noise = nn.Parameter(torch.full((1,), -1.0))

    def decode(self, latent: Tensor, label: Tensor) -> Tensor:
        """Pictures [batch, channels, height, width], from 0 to 1 where they are good."""
        return self.up(torch.cat([latent, self.label(label)], 1))

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of the negative ELBO in nats, each [batch]: the misfit and the divergence."""
        mean, log_variance = self.code(torch.cat([self.down(image), self.label(label)], 1)).chunk(2, 1)
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        error = ((self.decode(latent, label) - image) / self.log_noise.exp()) ** 2
        misfit = (error / 2 + self.log_noise).flatten(1).sum(1)
        return misfit, (mean**2 + log_variance.exp() - 1 - log_variance).sum(1) / 2


class MyGenerator(genloom.Generator):
    """Draws small pictures, of a given class where the dataset has classes."""

    contract = "1.0"
    makes = Image

    # Fields are hyperparameters: `genloom train my-generator latent=32` sets one, a sweep tries many.
    latent: int = Field(default=16, ge=1)
    """Numbers that a picture is coded in."""
    width: int = Field(default=32, ge=1)
    """Channels of the first convolution."""

    class Data(genloom.Data):
        """The columns that it learns from; a dataset may lack those with a default."""

        image: ImageColumn
        label: ClassColumn | None = None

    class Prompt(genloom.Prompt):
        """What a caller may ask for; every prompt has a `seed` too."""

        label: int | None = Field(default=None, ge=0)
        """The class by its index; drawn from the seed where none is given."""

    def build(self, data: Data) -> Net:
        """The network, untrained, for pictures and classes such as the dataset's."""
        height, breadth = data.image.height, data.image.width
        if not height or not breadth or height % 4 or breadth % 4:
            raise WrongDataset(f"pictures are {breadth}x{height}; give them one size, a multiple of 4")
        classes = len(data.label.names) if data.label else 1
        return Net((data.image.channels, height, breadth), classes, self.latent, self.width)

    def prepare(self, row: Row, data: Data) -> Example:
        """One row of the dataset as arrays and numbers. Draw from `row.rng` to augment."""
        return {"image": row["image"].to_chw(), "label": int(row["label"]) if data.label else 0}

    def loss(self, model: Net, batch: dict[str, Tensor]) -> Loss:
        """The negative ELBO in nats, for each pixel value; the metrics are for each picture."""
        misfit, kl = model(batch["image"], batch["label"])
        value = (misfit + kl).mean() / batch["image"][0].numel()
        return Loss(value, {"misfit": misfit.mean(), "kl": kl.mean()})

    def generate(self, model: Net, prompts: Sequence[Prompt]) -> Sequence[Image]:
        """One picture a prompt, from its seed alone: the same seed draws the same picture."""
        device = model.log_noise.device
        draws = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        latent = torch.stack([torch.randn(model.latent, generator=draw) for draw in draws])
        labels = [int(torch.randint(model.classes, (), generator=draw)) for draw in draws]
        asked = [
            drawn if p.label is None else p.label for p, drawn in zip(prompts, labels, strict=True)
        ]
        pictures = model.decode(latent.to(device), torch.tensor(asked, device=device))
        return [Image.from_chw(picture) for picture in pictures.float().cpu()]

    def check_prompt(self, prompt: Prompt, data: Data) -> None:
        """Refuse a prompt that the model cannot answer."""
        classes = len(data.label.names) if data.label else 1
        if prompt.label is not None and prompt.label >= classes:
            raise PromptError(f"label = {prompt.label}: give 0 to {classes - 1}")
