"""`text-rnn`: a recurrent network that learns texts character by character, and continues them."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

import genloom
from genloom import Example, Likelihood, Loss, Objective, Optimizer, Row, Text, TextColumn
from genloom.errors import WrongDataset
from genloom_text.network import PADDING, Cell, CharacterRNN
from genloom_text.prompt import Continuation, check_start
from genloom_text.vocabulary import vocabulary_of
from genloom_text.writing import GROUP, Writing, write

LEARNING_RATE = 3e-3
"""For AdamW without a schedule; averaged weights take the place of its decay."""


class TextRNN(genloom.Generator):
    """A recurrent network that learns texts character by character, and continues them.

    Hochreiter & Schmidhuber 1997 (LSTM) or Cho et al. 2014 (GRU), generating as in Graves 2013. It
    learns from crops of the passages and is evaluated on whole ones, each read from a zero state.
    """

    contract = "1.0"
    makes = Text

    cell: Cell = "lstm"
    """The kind of recurrent layer."""
    width: int = Field(default=512, ge=1, le=8192)
    """Numbers in the state of a layer."""
    layers: int = Field(default=1, ge=1, le=16)
    """Recurrent layers, one upon the other."""
    embedding: int = Field(default=64, ge=1, le=8192)
    """Numbers that a character is read as."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of each layer's outputs that is left out in training (Zaremba et al. 2014)."""
    context: int = Field(default=64, ge=1, le=65536)
    """Characters of the crop of a passage that a training step learns from."""

    class Prompt(Continuation):
        """A text to continue."""

    class Data(genloom.Data):
        """Passages of text."""

        text: TextColumn

    def build(self, data: Data) -> CharacterRNN:
        """An untrained network for the characters of the training split."""
        return CharacterRNN(
            vocabulary_of(data.text),
            self.cell,
            self.width,
            self.layers,
            self.embedding,
            self.dropout,
        )

    def prepare(self, row: Row, data: Data) -> Example:
        """The whole passage, for `likelihood`, and where the crop begins that `loss` learns from.

        Crops are drawn as if they could hang over both ends by half their length, and are then moved
        inside: else the characters at the ends of passages would hardly ever be learned.

        Raises:
            WrongDataset: The passage is longer than all that the model was built for.
        """
        symbols = vocabulary_of(data.text).encode(row["text"])
        length, longest = len(symbols), data.text.max_chars
        if length > longest:
            raise WrongDataset(
                f"a passage of column 'text' has {length:,} characters, and the dataset of the model has "
                f"none over {longest:,}; import the text again in passages of {longest:,} or fewer"
            )
        padding = np.full(longest - length, PADDING, np.int32)
        drawn = int(row.rng.integers(length + 1)) - self.context // 2
        offset = min(max(drawn, 0), max(length - self.context, 0))
        return {"symbols": np.concatenate([symbols, padding]), "offset": offset}

    def loss(self, model: CharacterRNN, batch: dict[str, Tensor]) -> Loss:
        """The cross entropy of a character of the crop in nats, as a mean over each crop and then all."""
        passages = batch["symbols"]
        crop = torch.arange(min(self.context, passages.shape[1]), device=passages.device)
        nats, characters = model.costs(passages.gather(1, batch["offset"][:, None] + crop))
        value = (nats / characters.clamp(min=1)).mean()
        return Loss(value, {"bits_per_character": value.detach() / math.log(2)})

    def objectives(self) -> Sequence[Objective]:
        """One, with a learning rate that suits recurrent layers of some hundred numbers."""
        return [Objective("loss", self.loss, optimizer=Optimizer(lr=LEARNING_RATE))]

    def likelihood(self, model: CharacterRNN, batch: dict[str, Tensor]) -> Likelihood:
        """The nats of each whole passage, read from a zero state; units are its characters.

        Every character counts once, unknown ones too: see `Vocabulary.unknown_nats`.
        """
        nats, characters = model.costs(batch["symbols"])
        return Likelihood(nats, characters)

    def generate(self, model: CharacterRNN, prompts: Sequence[Prompt]) -> Sequence[Text]:
        """What follows each start, without the start itself."""
        texts: list[Text] = []
        for at in range(0, len(prompts), GROUP):
            steps = write(model, prompts[at : at + GROUP])
            texts += [Text("".join(pieces)) for pieces in zip(*steps, strict=True)]
        return texts

    def stream(self, model: CharacterRNN, prompt: Prompt) -> Iterator[Text]:
        """The same text, character by character."""
        for (character,) in write(model, [prompt]):
            yield Text(character)

    def running(self, model: CharacterRNN) -> Writing:
        """A group of texts, each a character further at a time."""
        return Writing(model)

    def check_prompt(self, prompt: Prompt, data: Data) -> None:
        """Refuse a start with characters that the model has never seen."""
        check_start(prompt, vocabulary_of(data.text))
