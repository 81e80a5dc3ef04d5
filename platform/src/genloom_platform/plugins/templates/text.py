"""A recurrent network that writes text, one character after another (Cho et al. 2014).

Change `Net`, `loss` and `stream` to what you have in mind; `python -m pytest` says whether it still
works. Write it as for one processor: devices, several workers and checkpoints are not your concern.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

import genloom
from genloom import Example, Likelihood, Loss, PromptError, Row, Text, TextColumn

START = 0
"""The index of the place before a text; characters count from 1."""
NOTHING = -100
"""The target of places after a short text's end, which cost nothing."""


class Net(nn.Module):
    """Indices of characters to logits of the next one. Layers go here."""

    def __init__(self, vocabulary: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embed = nn.Embedding(len(vocabulary) + 1, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.logits = nn.Linear(width, len(vocabulary) + 1)

    def forward(self, indices: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [batch, time, characters + 1] and the memory to go on with."""
        features, last = self.gru(self.embed(indices), memory)
        return self.logits(features), last


class MyGenerator(genloom.Generator):
    """Writes text in the manner of its dataset, character by character."""

    contract = "1.0"
    makes = Text

    # Fields are hyperparameters: `genloom train my-generator width=512` sets one, a sweep tries many.
    width: int = Field(default=256, ge=1)
    """Units of the recurrent layer."""
    window: int = Field(default=128, ge=2)
    """Characters of an example."""

    class Data(genloom.Data):
        """The columns that it learns from."""

        text: TextColumn

    class Prompt(genloom.Prompt):
        """What a caller may ask for; every prompt has a `seed` too."""

        start: str = ""
        """Text to go on from."""
        length: int = Field(default=200, ge=1, le=10_000)
        """Characters to write."""
        temperature: float = Field(default=0.7, gt=0, le=10)
        """Below 1 the likely becomes likelier, above 1 less so."""

    def build(self, data: Data) -> Net:
        """The network, untrained, for the characters of the dataset."""
        return Net(data.text.vocabulary, self.width)

    def prepare(self, row: Row, data: Data) -> Example:
        """A piece of a text from a random place, as indices. `row.rng` makes it the same again."""
        index = {character: place for place, character in enumerate(data.text.vocabulary, 1)}
        text = row["text"]
        first = int(row.rng.integers(max(1, len(text) - self.window + 1)))
        piece = [index.get(character, START) for character in text[first : first + self.window]]
        target = np.full(self.window, NOTHING)
        target[: len(piece)] = piece
        context = np.full(self.window, START)
        context[1 : len(piece)] = piece[:-1]
        return {"context": context, "target": target}

    def loss(self, model: Net, batch: dict[str, Tensor]) -> Loss:
        """Nats a character: the mean over each text's own, then over the texts."""
        found = self.likelihood(model, batch)
        return Loss((found.nats / found.units).mean())

    def likelihood(self, model: Net, batch: dict[str, Tensor]) -> Likelihood:
        """Nats and characters of each text; evaluation makes bits a character of them."""
        logits, _ = model(batch["context"])
        nats = F.cross_entropy(
            logits.transpose(1, 2).float(), batch["target"], ignore_index=NOTHING, reduction="none"
        )
        return Likelihood(nats.sum(1), (batch["target"] != NOTHING).sum(1).clamp(min=1))

    def stream(self, model: Net, prompt: Prompt) -> Iterator[Text]:
        """One text, a character at a time, from the prompt's seed alone."""
        device = model.logits.weight.device
        draw = torch.Generator().manual_seed(prompt.seed)
        known = [model.vocabulary.index(character) + 1 for character in prompt.start]
        indices, memory = torch.tensor([[START, *known]], device=device), None
        for _ in range(prompt.length):
            logits, memory = model(indices, memory)
            weights = torch.softmax(logits[0, -1, 1:].float().cpu() / prompt.temperature, 0)
            place = int(torch.multinomial(weights, 1, generator=draw))
            indices = torch.tensor([[place + 1]], device=device)
            yield Text(model.vocabulary[place])

    def generate(self, model: Net, prompts: Sequence[Prompt]) -> Sequence[Text]:
        """One text a prompt; one after another, so that none depends on the others."""
        return [Text("".join(map(str, self.stream(model, prompt)))) for prompt in prompts]

    def check_prompt(self, prompt: Prompt, data: Data) -> None:
        """Refuse a prompt that the model cannot answer."""
        unknown = sorted(set(prompt.start) - set(data.text.vocabulary))
        if unknown:
            raise PromptError(
                f"start = {prompt.start!r}: the model knows no {' '.join(unknown)}; leave it out"
            )
