"""What the training benchmarks train: a small GPT, a perceptron so small that overhead shows, a wide one to save.

Their losses draw no random numbers, so that every contender must come to the same ones.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import genloom
from genloom import Loss

BATCHES = 8
"""Different batches; then they come again."""


class Block(nn.Module):
    """Attention and a perceptron, each on what a layer norm gives, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, time, width] to the same."""
        batch, time, width = x.shape
        parts = self.queries_keys_values(self.before_attention(x))
        q, k, v = parts.view(batch, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attended(attended.transpose(1, 2).reshape(batch, time, width))
        return x + self.mlp(self.before_mlp(x))


class Transformer(nn.Module):
    """Radford et al., Language Models are Unsupervised Multitask Learners, 2019; without dropout."""

    def __init__(self, vocabulary: int, context: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        self.output.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [batch, time] to logits [batch, time, vocabulary]."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.output(self.norm(self.blocks(self.tokens(tokens) + self.places(places))))


class Benchmarked(genloom.Predictor):
    """Only building it and its loss are used."""

    contract = "1.0"
    rows: int
    """Of a batch, on each rank."""

    def prepare(self, row, data):
        raise NotImplementedError

    def predict(self, model, batch):
        raise NotImplementedError

    def columns(self, random: np.random.Generator) -> dict[str, Any]:
        """A batch of one rank, as the data stream would give it."""
        raise NotImplementedError

    def batches(self, rank: int) -> Iterator[dict[str, Any]]:
        """A rank's batches, for ever."""
        kept = [self.columns(np.random.default_rng((rank, number))) for number in range(BATCHES)]
        while True:
            yield from kept


class GPT(Benchmarked):
    """A language model; 9.2 million parameters as it stands."""

    vocabulary: int = 512
    context: int = 128
    width: int = 384
    layers: int = 5
    heads: int = 6
    rows: int = 2

    def build(self, data):
        return Transformer(self.vocabulary, self.context, self.width, self.layers, self.heads)

    def columns(self, random):
        return {"tokens": random.integers(0, self.vocabulary, (self.rows, self.context + 1))}

    def loss(self, model, batch):
        tokens = batch["tokens"]
        logits = model(tokens[:, :-1])
        return Loss(F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten()))


class Perceptron(Benchmarked):
    """Layers of one width, from pixels to ten classes; 150,000 parameters as it stands."""

    pixels: int = 64
    width: int = 256
    layers: int = 3
    rows: int = 32

    def build(self, data):
        widths = [self.pixels, *[self.width] * self.layers]
        layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths)]
        return nn.Sequential(*layers, nn.Linear(self.width, 10))

    def columns(self, random):
        pixels = random.random((self.rows, self.pixels), np.float32)
        return {"pixels": pixels, "label": random.integers(0, 10, self.rows)}

    def loss(self, model, batch):
        return Loss(F.cross_entropy(model(batch["pixels"]), batch["label"]))


MODELS: dict[str, Benchmarked] = {"gpt": GPT(), "perceptron": Perceptron()}
