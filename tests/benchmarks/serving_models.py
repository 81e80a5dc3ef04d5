"""Models that the serving benchmark asks: decoders of pictures, and a text model. Their weights are as built."""

import torch
from torch import nn

import genloom
from genloom import Image, LoadedModel, TextColumn
from genloom_text.rnn import TextRNN

SIDE = 28


class Decoder(genloom.Generator):
    """Noise to a picture of 28 × 28, by linear layers."""

    contract = "1.0"
    makes = Image
    width: int = 256
    layers: int = 1

    def build(self, data):
        between = [nn.Linear(self.width, self.width) for _ in range(self.layers)]
        hidden = [part for layer in between for part in (layer, nn.ReLU())]
        return nn.Sequential(nn.Linear(32, self.width), *hidden, nn.Linear(self.width, SIDE**2))

    def prepare(self, row, data):
        return {}

    def generate(self, model, prompts):
        sources = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        noise = torch.stack([torch.randn(32, generator=source) for source in sources])
        return [Image.from_chw(x.view(1, SIDE, SIDE), -2, 2) for x in model(noise)]


def _loaded(name, trainable, data=None):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    return LoadedModel(name, trainable, trainable.build(data).eval(), data)


def small() -> LoadedModel:
    return _loaded("small@1", Decoder())


def large() -> LoadedModel:
    return _loaded("large@1", Decoder(width=4096, layers=4))


def writer() -> LoadedModel:
    column = TextColumn(vocabulary=tuple(" abcdefghijklmnopqrstuvwxyz"), max_chars=256)
    return _loaded("writer@1", TextRNN(width=512), TextRNN.Data(text=column))


MODELS = {"small": small, "large": large, "writer": writer}
