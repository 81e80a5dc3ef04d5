"""The two halves that the VAE and the GAN are built of: pictures down to features, and features up.

Both halve or double the edges until the shorter one has at most 4 pixels, and double the channels
with every halving, up to eightfold. Normalisation is by groups within one picture (Wu & He 2018), so
that no picture depends on the others of its batch.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from genloom_image.pictures import Shape

GROUPS = 8
"""Groups of channels that are normalised together; every width is a multiple of it."""
MAX_GROWTH = 8
"""How many times the width the channels grow to at most."""


def stages(shape: Shape, width: int) -> list[Shape]:
    """The shapes of the feature maps from the picture's size down to the smallest."""
    _, height, breadth = shape
    maps: list[Shape] = [(width, height, breadth)]
    while height % 2 == 0 and breadth % 2 == 0 and min(height, breadth) > 4:
        height, breadth = height // 2, breadth // 2
        maps.append((width * min(2 ** len(maps), MAX_GROWTH), height, breadth))
    return maps


class Downsampler(nn.Module):
    """Pictures [batch, channels, height, width] to features [batch, features]."""

    def __init__(self, shape: Shape, width: int, *, normalised: bool) -> None:
        super().__init__()
        maps = stages(shape, width)
        layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, padding=1), nn.LeakyReLU(0.2)]
        for (above, _, _), (below, _, _) in pairwise(maps):
            layers += [nn.Conv2d(above, below, 4, stride=2, padding=1)]
            layers += [nn.GroupNorm(GROUPS, below)] if normalised else []
            layers += [nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        channels, height, breadth = maps[-1]
        self.features = channels * height * breadth

    def forward(self, image: Tensor) -> Tensor:
        """Features [batch, features]."""
        return self.layers(image)


class Upsampler(nn.Module):
    """Vectors [batch, inputs] to pictures [batch, channels, height, width] of unbounded values."""

    def __init__(self, inputs: int, shape: Shape, width: int) -> None:
        super().__init__()
        maps = stages(shape, width)[::-1]
        self.smallest = maps[0]
        channels, height, breadth = self.smallest
        self.dense = nn.Linear(inputs, channels * height * breadth)
        self.norm = nn.GroupNorm(GROUPS, channels)
        layers: list[nn.Module] = []
        for (below, _, _), (above, _, _) in pairwise(maps):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(below, above, 3, padding=1)]
            layers += [nn.GroupNorm(GROUPS, above), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, shape[0], 3, padding=1))

    def forward(self, vector: Tensor) -> Tensor:
        """Pictures [batch, channels, height, width]."""
        smallest = self.dense(vector).unflatten(1, self.smallest)
        return self.layers(F.silu(self.norm(smallest)))
