"""Augmentation of one image, as for image classifiers and generators."""

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from genloom.augment.augmentation import Augmentation, Probability, Share
from genloom.samples import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image as pil

    Pixels = NDArray[np.uint8]
    """Shape [height, width, channels]."""


class ImageAugment(Augmentation):
    """Changes of geometry, then of colour, then noise, then erasing; the size and channels stay.

    Colour and noise leave an alpha channel alone. The geometry is one map with one interpolation
    (bilinear); what it takes from beyond the border is the picture's reflection.
    """

    flip: Probability = 0.0
    """Probability of a mirror image, left for right."""
    flip_vertical: Probability = 0.0
    """Probability of a mirror image, top for bottom."""
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Smallest share of the area that is kept: a random crop, resized to the picture's size, that
    stretches one edge against the other by at most 4/3 (Szegedy et al. 2015, "Going Deeper with
    Convolutions"). 1 is off."""
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Greatest move in each direction, as a share of that edge; in whole pixels."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Greatest turn about the centre, either way."""
    brightness: Share = 0.0
    """Pixels are multiplied by a factor from 1 - `brightness` to 1 + `brightness`."""
    contrast: Share = 0.0
    """Differences from the mean grey are multiplied by a factor from 1 - `contrast` to 1 + `contrast`."""
    saturation: Share = 0.0
    """Differences from a pixel's own grey are multiplied by such a factor; a grey picture keeps its own."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Greatest turn of the colour circle, either way; 0.5 is half of it. A grey picture keeps its own."""
    noise: Share = 0.0
    """Standard deviation of Gaussian noise, as a share of the range from black to white."""
    erase: Probability = 0.0
    """Probability that a rectangle becomes random pixels: 2 to 40 % of the area, its edges as 0.3 to 1/0.3
    and cut at the picture's (Zhong et al. 2017, "Random Erasing Data Augmentation")."""

    def __call__(self, image: Image, rng: "np.random.Generator") -> Image:
        """An image of the same size and channels; the same object where nothing was changed."""
        import numpy as np

        pixels = self._mirrored(image.array, rng)
        pixels = self._moved(pixels, rng)
        pixels = self._recoloured(pixels, rng)
        pixels = self._erased(pixels, rng)
        return image if pixels is image.array else Image(np.ascontiguousarray(pixels))

    def _mirrored(self, pixels: "Pixels", rng: "np.random.Generator") -> "Pixels":
        if self.flip and rng.random() < self.flip:
            pixels = pixels[:, ::-1]
        if self.flip_vertical and rng.random() < self.flip_vertical:
            pixels = pixels[::-1]
        return pixels

    def _moved(self, pixels: "Pixels", rng: "np.random.Generator") -> "Pixels":
        if self.crop == 1 and not self.shift and not self.rotate_degrees:
            return pixels
        height, width = pixels.shape[:2]
        kept_x, kept_y = _kept_edges(self.crop, rng)
        x, y = (1 - kept_x) * rng.uniform(-1, 1), (1 - kept_y) * rng.uniform(-1, 1)
        # An edge is 2 long here. Whole pixels: a shift alone moves the picture without blurring it.
        x += 2 * round(width * rng.uniform(-self.shift, self.shift)) / width
        y += 2 * round(height * rng.uniform(-self.shift, self.shift)) / height
        turn = math.radians(rng.uniform(-self.rotate_degrees, self.rotate_degrees))
        cos, sin, aspect = math.cos(turn), math.sin(turn), height / width
        return _warped(
            pixels,
            [[kept_x * cos, -kept_y * sin * aspect, x], [kept_x * sin / aspect, kept_y * cos, y]],
        )

    def _recoloured(self, pixels: "Pixels", rng: "np.random.Generator") -> "Pixels":
        """ColorJitter of torchvision on Pillow images, in a random order as there; then the noise."""
        jitters = [
            (adjust, reach)
            for adjust, reach in (
                (_brightened, self.brightness),
                (_contrasted, self.contrast),
                (_saturated, self.saturation),
                (_hue_turned, self.hue),
            )
            if reach
        ]
        if not jitters and not self.noise:
            return pixels
        coloured = _colours(pixels)
        colour = pixels[:, :, :coloured]
        for index in rng.permutation(len(jitters)):
            adjust, reach = jitters[index]
            colour = adjust(colour, rng.uniform(-reach, reach))
        if self.noise:
            colour = _noisy(colour, self.noise, rng)
        result = pixels.copy()
        result[:, :, :coloured] = colour
        return result

    def _erased(self, pixels: "Pixels", rng: "np.random.Generator") -> "Pixels":
        if not self.erase or rng.random() >= self.erase:
            return pixels
        import numpy as np

        height, width = pixels.shape[:2]
        area = height * width * rng.uniform(0.02, 0.4)
        ratio = math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
        tall = min(max(1, round(math.sqrt(area * ratio))), height)
        wide = min(max(1, round(math.sqrt(area / ratio))), width)
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        coloured = _colours(pixels)
        result = pixels.copy()
        result[top : top + tall, left : left + wide, :coloured] = rng.integers(
            256, size=(tall, wide, coloured), dtype=np.uint8
        )
        return result


def _kept_edges(smallest: float, rng: "np.random.Generator") -> tuple[float, float]:
    """The shares of the width and of the height that a random crop keeps.

    Their product is the share of the area, their quotient the stretch. torchvision draws until a
    crop fits; here the stretch is drawn from those that fit, so that no share falls below `smallest`.
    """
    area = rng.uniform(smallest, 1)
    reach = min(math.log(4 / 3), math.log(1 / area))
    stretch = math.exp(rng.uniform(-reach, reach))
    return min(1.0, math.sqrt(area * stretch)), min(1.0, math.sqrt(area / stretch))


def _warped(pixels: "Pixels", map_23: list[list[float]]) -> "Pixels":
    """The pixels under an affine map from where they go to where they come from.

    The map is of (x, y), with the picture's edges at -1 and 1.
    """
    import numpy as np
    import torch
    from torch.nn import functional

    image = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    grid = functional.affine_grid(
        torch.tensor([map_23], dtype=torch.float32), list(image.shape), align_corners=False
    )
    moved = functional.grid_sample(
        image, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return np.rint(moved[0].permute(1, 2, 0).numpy()).clip(0, 255).astype(np.uint8)


def _brightened(pixels: "Pixels", change: float) -> "Pixels":
    from PIL import ImageEnhance

    return _array(ImageEnhance.Brightness(_picture(pixels)).enhance(1 + change))


def _contrasted(pixels: "Pixels", change: float) -> "Pixels":
    from PIL import ImageEnhance

    return _array(ImageEnhance.Contrast(_picture(pixels)).enhance(1 + change))


def _saturated(pixels: "Pixels", change: float) -> "Pixels":
    from PIL import ImageEnhance

    return _array(ImageEnhance.Color(_picture(pixels)).enhance(1 + change))


def _hue_turned(pixels: "Pixels", change: float) -> "Pixels":
    from PIL import Image as pil

    if pixels.shape[2] == 1:
        return pixels
    hue, saturation, value = _picture(pixels).convert("HSV").split()
    turned = hue.point([(level + round(change * 256)) % 256 for level in range(256)])
    return _array(pil.merge("HSV", (turned, saturation, value)).convert("RGB"))


def _noisy(pixels: "Pixels", deviation: float, rng: "np.random.Generator") -> "Pixels":
    import numpy as np

    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(255 * deviation)
    return np.rint(pixels + noise).clip(0, 255).astype(np.uint8)


def _colours(pixels: "Pixels") -> int:
    """How many of the channels are colour: all but the alpha of four."""
    return 3 if pixels.shape[2] == 4 else pixels.shape[2]


def _picture(pixels: "Pixels") -> "pil.Image":
    import numpy as np
    from PIL import Image as pil

    return pil.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))


def _array(picture: "pil.Image") -> "Pixels":
    import numpy as np

    array = np.asarray(picture)
    return array[:, :, None] if array.ndim == 2 else array
