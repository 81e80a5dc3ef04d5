"""`image-gan`: a Wasserstein GAN that draws small pictures of a class."""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

import genloom
from genloom import ClassColumn, Example, Image, ImageColumn, Loss, Objective, Optimizer, Row
from genloom_image.networks import GROUPS, Downsampler, Upsampler
from genloom_image.pictures import (
    HIGH,
    LOW,
    Shape,
    check_label,
    draw_latents,
    labelled_example,
    num_classes,
    shape_of,
)


class Painter(nn.Module):
    """Noise [batch, latent] and labels [batch] to pictures [batch, channels, height, width]."""

    def __init__(self, shape: Shape, classes: int, latent: int, width: int) -> None:
        super().__init__()
        self.label = nn.Embedding(classes, width)
        self.up = Upsampler(latent + width, shape, width)

    def forward(self, noise: Tensor, label: Tensor) -> Tensor:
        """Pictures."""
        return torch.tanh(self.up(torch.cat([noise, self.label(label)], 1)))


class Critic(nn.Module):
    """Pictures and labels to scores [batch]: the more like the dataset's, the higher.

    The label enters as a projection (Miyato & Koyama 2018, equation 3). Nothing is normalised over
    the batch, for the gradient penalty is one picture's own (Gulrajani et al. 2017, section 4).
    """

    def __init__(self, shape: Shape, classes: int, width: int) -> None:
        super().__init__()
        self.down = Downsampler(shape, width, normalised=False)
        self.dense = nn.Sequential(nn.Linear(self.down.features, 8 * width), nn.LeakyReLU(0.2))
        self.score = nn.Linear(8 * width, 1)
        self.label = nn.Embedding(classes, 8 * width)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Scores [batch]."""
        features = self.dense(self.down(image))
        return self.score(features).squeeze(1) + (self.label(label) * features).sum(1)


class GAN(nn.Module):
    """A critic and a generator."""

    def __init__(self, critic: Critic, generator: Painter, classes: int) -> None:
        super().__init__()
        self.critic, self.generator, self.classes = critic, generator, classes


def gradient_penalty(critic: nn.Module, real: Tensor, fake: Tensor, label: Tensor) -> Tensor:
    """How far the critic's slope is from 1 between real and fake pictures, a scalar.

    Gulrajani et al. 2017, equation 3: the mean of (|∇ score| - 1)² at random points on the lines
    between pairs. It has gradients of its own, for the critic's weights.

    Args:
        critic: `critic(image, label)` gives scores [batch]; no picture may influence another's.
        real: Pictures [batch, channels, height, width].
        fake: Pictures of the same shape.
        label: The classes of both [batch].
    """
    with torch.enable_grad():  # so that a validation without gradients can ask for it too
        share = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
        point = (share * real + (1 - share) * fake).detach().requires_grad_()
        score = critic(point, label).sum()
        (slope,) = torch.autograd.grad(score, point, create_graph=True)
        return ((slope.float().flatten(1).norm(dim=1) - 1) ** 2).mean()


class ImageGAN(genloom.Generator):
    """A Wasserstein GAN with gradient penalty that draws small pictures (Gulrajani et al. 2017).

    The label is a condition of generator and critic where the dataset has classes.
    """

    contract = "1.0"
    makes = Image

    latent: int = Field(default=32, ge=1, le=1024)
    """Normal numbers that a picture is made from."""
    width: int = Field(default=32, ge=GROUPS, le=512, multiple_of=GROUPS)
    """Channels of the convolutions at full size; each halving doubles them, up to eightfold."""
    penalty: float = Field(default=10.0, gt=0, le=1000)
    """Weight of the gradient penalty (λ in the paper)."""
    critic_repeats: int = Field(default=5, ge=1, le=100)
    """How often the critic learns for each time that the generator does."""

    class Data(genloom.Data):
        """Pictures of one size, with or without classes."""

        image: ImageColumn
        label: ClassColumn | None = None

    class Prompt(genloom.Prompt):
        """A picture to draw."""

        label: int | None = Field(default=None, ge=0)
        """The class by its index, from 0; drawn from the seed where none is given."""

    def build(self, data: Data) -> GAN:
        """Two untrained networks for pictures and classes such as the dataset's."""
        shape, classes = shape_of(data.image), num_classes(data.label)
        critic = Critic(shape, classes, self.width)
        return GAN(critic, Painter(shape, classes, self.latent, self.width), classes)

    def prepare(self, row: Row, data: Data) -> Example:
        """Pixels of shape [channels, height, width], and the class."""
        return labelled_example(row, data.label)

    def objectives(self) -> Sequence[Objective]:
        """The critic learns several times to each time of the generator."""
        adam = Optimizer(name="Adam", lr=5e-4, betas=(0.0, 0.9))
        return [
            Objective(
                "critic", self.critic_loss, "critic", self.critic_repeats, adam, whole_weights=True
            ),
            Objective("generator", self.generator_loss, "generator", 1, adam),
        ]

    def critic_loss(self, model: GAN, batch: dict[str, Tensor]) -> Loss:
        """Fake scores less real scores, and the gradient penalty.

        The metric "distance" is the critic's estimate of the Wasserstein distance.
        """
        real, label = batch["image"], batch["label"]
        fake = self._paint(model, batch)
        distance = (model.critic(real, label) - model.critic(fake, label)).float().mean()
        penalty = gradient_penalty(model.critic, real, fake, label)
        return Loss(self.penalty * penalty - distance, {"distance": distance, "penalty": penalty})

    def generator_loss(self, model: GAN, batch: dict[str, Tensor]) -> Loss:
        """The critic's scores of the generator's pictures, negated; labels are the batch's."""
        scores = model.critic(self._paint(model, batch), batch["label"])
        return Loss(-scores.float().mean())

    def _paint(self, model: GAN, batch: dict[str, Tensor]) -> Tensor:
        image, label = batch["image"], batch["label"]
        noise = torch.randn(len(image), self.latent, device=image.device, dtype=image.dtype)
        return model.generator(noise, label)

    def generate(self, model: GAN, prompts: Sequence[Prompt]) -> Sequence[Image]:
        """One picture a prompt."""
        like = next(model.parameters())
        noise, label = draw_latents(prompts, self.latent, model.classes, like)
        pictures = model.generator(noise, label).float().cpu()
        return [Image.from_chw(picture, LOW, HIGH) for picture in pictures]

    def check_prompt(self, prompt: Prompt, data: Data) -> None:
        """Refuse a class that the dataset lacks."""
        check_label(prompt, data.label)
