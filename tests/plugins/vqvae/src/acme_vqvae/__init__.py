"""`acme-vqvae`: pictures as a few codes of a learned codebook (van den Oord et al. 2017)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import genloom
from genloom import ClassColumn, Example, Image, ImageColumn, Loss, PromptError, Row
from genloom.errors import WrongDataset

DEAD = 0.1
"""A code with less than this part of an equal share is moved to where vectors are."""


class Quantizer(nn.Module):
    """A codebook that follows the vectors it stands for by moving averages (appendix A.1).

    It is kept as means over positions, the share of each code and the sum of its vectors: the mean
    of such means over equal parts of a batch is that of the whole, so workers may average them.
    """

    shares: Tensor
    sums: Tensor
    recent: Tensor

    def __init__(self, codes: int, size: int) -> None:
        super().__init__()
        self.few = 2 * DEAD / codes
        vectors = torch.randn(codes, size)
        self.register_buffer("shares", torch.full((codes,), self.few))
        self.register_buffer("sums", self.few * vectors)
        self.register_buffer("recent", vectors)

    def codebook(self) -> Tensor:
        """The vector of each code, [codes, size]; equation 8."""
        return self.sums / self.shares[:, None]

    def revive(self) -> None:
        """Move the codes that nothing uses to recent vectors, before the encoder settles for the rest.

        All workers move the same ones to the same place, as they agree on all that this looks at; on
        many workers the places are means of their vectors, and so nearer to the middle than vectors.
        """
        dead = self.shares < self.few / 2
        self.shares[dead] = self.few
        self.sums[dead] = self.few * self.recent[dead]

    def learn(self, vectors: Tensor, codes: Tensor, decay: float) -> None:
        """Take up vectors, [positions, size], and the codes that stand for them; equations 6 and 7."""
        chosen = F.one_hot(codes, len(self.shares)).float()
        self.shares.lerp_(chosen.mean(0), 1 - decay)
        self.sums.lerp_(chosen.T @ vectors / len(vectors), 1 - decay)
        some = torch.randint(len(vectors), (len(self.shares),), device=vectors.device)
        self.recent.copy_(vectors[some])


class Network(nn.Module):
    """Encoder, codebook, decoder, and how often each code stands at each place for each label."""

    prior: Tensor

    def __init__(self, config: "VQVAE", image: ImageColumn, classes: int) -> None:
        super().__init__()
        width, halvings = config.width, config.halvings
        side = 2**halvings
        if not image.height or not image.width or image.height % side or image.width % side:
            raise WrongDataset(
                f"pictures of {image.height}x{image.width} cannot be halved {halvings} times; "
                f"import them again in one size whose edges are multiples of {side}"
            )
        self.grid = image.height // side, image.width // side
        down: list[nn.Module] = [nn.Conv2d(image.channels, width, 3, padding=1)]
        up: list[nn.Module] = [nn.Conv2d(config.size, width, 3, padding=1)]
        for _ in range(halvings):
            down += [nn.ReLU(), nn.Conv2d(width, width, 4, stride=2, padding=1)]
            up += [nn.ReLU(), nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)]
        self.encoder = nn.Sequential(*down, nn.ReLU(), nn.Conv2d(width, config.size, 3, padding=1))
        self.norm = nn.LayerNorm(config.size, elementwise_affine=False)  # on the codebook's scale
        self.quantizer = Quantizer(config.codes, config.size)
        self.decoder = nn.Sequential(*up, nn.ReLU(), nn.Conv2d(width, image.channels, 3, padding=1))
        places = self.grid[0] * self.grid[1]
        uniform = torch.full((classes, places, config.codes), 1 / classes / config.codes)
        self.register_buffer("prior", uniform)

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors and those of their codes, [batch, places, size], and the codes, [batch, places]."""
        vectors = self.norm(self.encoder(pictures).flatten(2).transpose(1, 2).float())
        if self.training:
            self.quantizer.revive()
        codebook = self.quantizer.codebook()  # of the averages that all workers agree on
        codes = torch.cdist(vectors.detach().flatten(0, 1), codebook).argmin(1).view(vectors.shape[:2])
        return vectors, codebook[codes], codes

    def decode(self, vectors: Tensor) -> Tensor:
        """Pictures of vectors, [batch, places, size]."""
        return self.decoder(vectors.transpose(1, 2).unflatten(2, self.grid)).float()

    def learn(self, vectors: Tensor, codes: Tensor, labels: Tensor, decay: float) -> None:
        """Take up the vectors, codes and labels of a batch."""
        self.quantizer.learn(vectors.detach().flatten(0, 1), codes.flatten(), decay)
        classes, _, num_codes = self.prior.shape
        label, code = F.one_hot(labels, classes).float(), F.one_hot(codes, num_codes).float()
        self.prior.lerp_(torch.einsum("bl,bpc->lpc", label, code) / len(labels), 1 - decay)


class VQVAE(genloom.Generator):
    """A VQ-VAE whose codebook follows by moving averages, with a prior for each place and label."""

    contract = "1.0"
    makes = Image

    codes: int = Field(default=128, ge=2, le=65536)
    """Vectors in the codebook."""
    size: int = Field(default=16, ge=2, le=1024)
    """Numbers in a vector."""
    width: int = Field(default=32, ge=1, le=1024)
    """Channels of the convolutions."""
    halvings: int = Field(default=2, ge=1, le=5)
    """How often height and width are halved: a code stands for a square of 2 to that power."""
    commitment: float = Field(default=0.25, ge=0)
    """Weight of the distance between vectors and their codes (β in equation 3)."""
    decay: float = Field(default=0.99, gt=0, lt=1)
    """Of the moving averages (γ in equation 6)."""

    class Data(genloom.Data):
        """Pictures of one size, with or without classes."""

        image: ImageColumn
        label: ClassColumn | None = None

    class Prompt(genloom.Prompt):
        """A picture to draw."""

        label: int | None = Field(default=None, ge=0)
        """The class by its index; any if left out."""

    def build(self, data: Data) -> Network:
        """An untrained network."""
        return Network(self, data.image, len(data.label.names) if data.label else 1)

    def prepare(self, row: Row, data: Data) -> Example:
        """Pixels from -1 to 1, [channels, height, width], and the label; 0 where there is none."""
        return {"image": row["image"].to_chw(-1, 1), "label": int(row["label"]) if data.label else 0}

    def loss(self, model: Network, batch: dict[str, Tensor]) -> Loss:
        """Reconstruction and commitment, as means over their numbers (equation 3)."""
        vectors, nearest, codes = model.encode(batch["image"])
        straight = vectors + (nearest - vectors).detach()
        reconstruction = F.mse_loss(model.decode(straight), batch["image"].float())
        distance = F.mse_loss(vectors, nearest)
        if model.training:
            model.learn(vectors, codes, batch["label"], self.decay)
        metrics = {"reconstruction": reconstruction.detach(), "distance": distance.detach()}
        return Loss(reconstruction + self.commitment * distance, metrics)

    def generate(self, model: Network, prompts: Sequence[Prompt]) -> Sequence[Image]:
        """One picture a prompt: a code drawn for each place, and decoded."""
        drawn: list[Tensor] = []
        for prompt in prompts:
            source = torch.Generator().manual_seed(prompt.seed)
            any_label = int(torch.randint(len(model.prior), (), generator=source))
            weights = model.prior[any_label if prompt.label is None else prompt.label].cpu() + 1e-9
            drawn.append(torch.multinomial(weights, 1, generator=source)[:, 0])
        vectors = model.quantizer.codebook()[torch.stack(drawn)]
        return [Image.from_chw(picture, -1, 1) for picture in model.decode(vectors).cpu()]

    def check_prompt(self, prompt: Prompt, data: Data) -> None:
        """Refuse a class that the dataset lacks."""
        classes = len(data.label.names) if data.label else 0
        if prompt.label is not None and prompt.label >= classes:
            raise PromptError(f"label = {prompt.label}: there are {classes} classes; leave label out")
