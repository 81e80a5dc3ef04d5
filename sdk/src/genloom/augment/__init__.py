"""Data augmentation: settings that are called on one value with the random numbers of its row.

    class Painter(genloom.Generator):
        augment: ImageAugment = ImageAugment()              # in YAML: augment: {flip: 0.5, crop: 0.8}

        def prepare(self, row, data):
            image = self.augment(row["image"], row.rng) if row.training else row["image"]
            return {"image": image.to_chw()}

Every setting is off by default, and then returns the very object that it was given. What is drawn
comes from the numpy generator alone: the same state of it gives the same result, bit by bit, and no
global random state is read or changed. `mixup` works on whole batches instead.

PyTorch and python-stretch are imported when a setting first needs them; they come with
`pip install "genloom[augment]"`.
"""

from genloom.augment.audio import AudioAugment, SpecAugment, stretch_audio
from genloom.augment.augmentation import Augmentation
from genloom.augment.batch import mixup, one_hot
from genloom.augment.image import ImageAugment
from genloom.augment.text import TextAugment, read_synonyms

__all__ = [
    "AudioAugment",
    "Augmentation",
    "ImageAugment",
    "SpecAugment",
    "TextAugment",
    "mixup",
    "one_hot",
    "read_synonyms",
    "stretch_audio",
]
