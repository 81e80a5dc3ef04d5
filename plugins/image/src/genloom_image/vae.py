"""`image-vae`: a convolutional variational autoencoder that draws small pictures of a class."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import genloom
from genloom import ClassColumn, Example, Image, ImageColumn, Likelihood, Loss, Row
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

MIN_LOG_SCALE = -7.0
"""Below it the logistic is narrower than one of the 256 levels, and its gradient says no more."""


class Encoder(nn.Module):
    """Pictures and labels to the mean and log-variance of the latent, each [batch, latent]."""

    def __init__(self, shape: Shape, classes: int, latent: int, width: int) -> None:
        super().__init__()
        self.down = Downsampler(shape, width, normalised=True)
        self.label = nn.Embedding(classes, width)
        self.dense = nn.Linear(self.down.features + width, 2 * latent)

    def forward(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior's mean and log-variance."""
        features = torch.cat([self.down(image), self.label(label)], 1)
        mean, log_variance = self.dense(features).float().chunk(2, 1)
        return mean, log_variance


class Decoder(nn.Module):
    """Latents and labels to the location and log-scale of every pixel's logistic distribution."""

    def __init__(self, shape: Shape, classes: int, latent: int, width: int) -> None:
        super().__init__()
        self.label = nn.Embedding(classes, width)
        self.up = Upsampler(latent + width, shape, width)
        self.log_scale = nn.Parameter(torch.full((shape[0], 1, 1), -1.0))

    def forward(self, latent: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Locations [batch, channels, height, width] and log-scales [channels, 1, 1]."""
        location = self.up(torch.cat([latent, self.label(label)], 1))
        return location.float(), self.log_scale.float().clamp(min=MIN_LOG_SCALE)


class VAE(nn.Module):
    """An encoder and a decoder."""

    def __init__(self, shape: Shape, classes: int, latent: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.encoder = Encoder(shape, classes, latent, width)
        self.decoder = Decoder(shape, classes, latent, width)

    def costs(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of the negative ELBO in nats, each [batch]: reconstruction and divergence."""
        mean, log_variance = self.encoder(image, label)
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        location, log_scale = self.decoder(latent.to(image), label)
        reconstruction = -log_probability(image.float(), location, log_scale).flatten(1).sum(1)
        # Kingma & Welling 2014, appendix B: a diagonal normal against the standard normal.
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        return reconstruction, divergence


def log_probability(pixels: Tensor, location: Tensor, log_scale: Tensor) -> Tensor:
    """The log-probability in nats of each 8-bit pixel under a discretized logistic distribution.

    Salimans et al. 2017 (PixelCNN++), equation 2, with one component: the distribution's mass
    between the two borders of the pixel's level; the outer levels reach to infinity. With upper and
    lower border u and l in units of the scale, the mass is σ(u) - σ(l) = σ(u) σ(-l) (1 - exp(l - u)),
    which loses no digits in the tails.
    """
    half_level = (HIGH - LOW) / 255 / 2
    upper = (pixels + half_level - location) / log_scale.exp()
    lower = (pixels - half_level - location) / log_scale.exp()
    between = torch.log(-torch.expm1(-2 * half_level / log_scale.exp())).expand_as(pixels)
    above_black, below_white = pixels > LOW + half_level, pixels < HIGH - half_level
    zero = torch.zeros_like(pixels)
    return (
        torch.where(below_white, F.logsigmoid(upper), zero)
        + torch.where(above_black, F.logsigmoid(-lower), zero)
        + torch.where(above_black & below_white, between, zero)
    )


class ImageVAE(genloom.Generator):
    """A convolutional VAE that draws small pictures, of a given class where the dataset has classes.

    Kingma & Welling 2014, with the label as a condition (Sohn et al. 2015). Each pixel value is a
    discretized logistic around what the decoder says, with a learned scale for each channel, which
    weighs reconstruction against the latent's divergence (Rybkin et al. 2021).
    """

    contract = "1.0"
    makes = Image

    latent: int = Field(default=16, ge=1, le=1024)
    """Numbers that a picture is coded in."""
    beta: float = Field(default=1.0, gt=0, le=100)
    """Weight of the divergence (Higgins et al. 2017): 1 is the ELBO, less draws sharper pictures."""
    width: int = Field(default=32, ge=GROUPS, le=512, multiple_of=GROUPS)
    """Channels of the convolutions at full size; each halving doubles them, up to eightfold."""

    class Data(genloom.Data):
        """Pictures of one size, with or without classes."""

        image: ImageColumn
        label: ClassColumn | None = None

    class Prompt(genloom.Prompt):
        """A picture to draw."""

        label: int | None = Field(default=None, ge=0)
        """The class by its index, from 0; drawn from the seed where none is given."""

    def build(self, data: Data) -> VAE:
        """An untrained network for pictures and classes such as the dataset's."""
        return VAE(shape_of(data.image), num_classes(data.label), self.latent, self.width)

    def prepare(self, row: Row, data: Data) -> Example:
        """Pixels of shape [channels, height, width], and the class."""
        return labelled_example(row, data.label)

    def loss(self, model: VAE, batch: dict[str, Tensor]) -> Loss:
        """The negative ELBO in nats for each pixel value, its divergence weighted by beta.

        The metrics are in nats for each picture.
        """
        reconstruction, divergence = model.costs(batch["image"], batch["label"])
        value = (reconstruction + self.beta * divergence).mean() / batch["image"][0].numel()
        return Loss(value, {"reconstruction": reconstruction.mean(), "kl": divergence.mean()})

    def likelihood(self, model: VAE, batch: dict[str, Tensor]) -> Likelihood:
        """The negative ELBO (beta 1) of each picture, one draw of the latent; units are pixel values.

        Colours count apart, as they do where bits per dimension are reported.
        """
        reconstruction, divergence = model.costs(batch["image"], batch["label"])
        units = torch.full_like(batch["label"], batch["image"][0].numel())
        return Likelihood(reconstruction + divergence, units)

    def generate(self, model: VAE, prompts: Sequence[Prompt]) -> Sequence[Image]:
        """One picture a prompt: the location of every pixel, without the decoder's own noise."""
        like = next(model.parameters())
        latent, label = draw_latents(prompts, self.latent, model.classes, like)
        location, _ = model.decoder(latent, label)
        return [Image.from_chw(picture, LOW, HIGH) for picture in location.clamp(LOW, HIGH).cpu()]

    def check_prompt(self, prompt: Prompt, data: Data) -> None:
        """Refuse a class that the dataset lacks."""
        check_label(prompt, data.label)
