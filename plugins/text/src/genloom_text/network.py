"""The network of `text-rnn`: symbols in, the logits of what follows out."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genloom_text.vocabulary import Vocabulary

Cell = Literal["lstm", "gru"]

PADDING = -1
"""Stands behind the last symbol of a passage that is shorter than others; costs nothing."""


class CharacterRNN(nn.Module):
    """An embedding, recurrent layers, and a linear layer to the logits of each symbol."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        cell: Cell,
        width: int,
        layers: int,
        embedding: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        known = len(vocabulary.characters)
        # An unknown character is read as zeros: the training split has none to learn from.
        self.embedding = nn.Embedding(known + 2, embedding, padding_idx=vocabulary.unknown)
        recurrent = nn.LSTM if cell == "lstm" else nn.GRU
        between = dropout if layers > 1 else 0.0
        self.recurrent = recurrent(embedding, width, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, known + 1)

    def forward(self, symbols: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read on from a state.

        Args:
            symbols: Symbols, [batch, time]; `start` comes first where nothing was read before.
            state: What the last call returned; zeros if None.

        Returns:
            The logits of the symbol after each, [batch, time, characters + 1], float32; and the
            state, [parts, layers, batch, width], of two parts for an LSTM and one for a GRU.
        """
        before = None
        if state is not None:
            before = tuple(state) if isinstance(self.recurrent, nn.LSTM) else state[0]
        output, after = self.recurrent(self.embedding(symbols), before)
        after = torch.stack(after) if isinstance(after, tuple) else after[None]
        return self.output(self.dropout(output)).float(), after

    def costs(self, passages: Tensor) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood in nats of passages, and their characters, each [batch].

        Each passage is read from a zero state; its first character is predicted from `start` alone.

        Args:
            passages: Symbols, [batch, time], with `PADDING` behind the shorter passages.
        """
        target = passages.long()
        read = F.pad(target[:, :-1].clamp(min=0), (1, 0), value=self.vocabulary.start)
        logits, _ = self(read)
        nats = F.cross_entropy(
            logits.transpose(1, 2), target, ignore_index=PADDING, reduction="none"
        ).sum(1)
        unknown = (target == self.vocabulary.unknown).sum(1)
        return nats + unknown * self.vocabulary.unknown_nats, (target != PADDING).sum(1)
