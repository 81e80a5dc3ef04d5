"""How a model of characters writes: each prompt from its own seed, the same alone and in a batch.

A sum is rounded otherwise in a product of one row than in one of sixteen, and one bit in a
probability is enough to draw another character and so to write another text. Therefore nothing here
has a shape that depends on the other prompts: a start is read alone, and prompts are then continued
in groups of always the same number of rows, filled up where there are fewer. Within a product of one
shape, every row is computed in the same way. So a prompt may also join a group that is being written.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

import genloom
from genloom_text.network import CharacterRNN
from genloom_text.prompt import Continuation

GROUP = 16
"""Rows of a group. On a CPU a full one loses nothing by the rule; a prompt alone takes 1.1 to 2.5 times
as long as a product of one row would. A power of two leaves no row over where a product is cut in tiles."""

COLDEST = 1e-6
"""The temperature that 0 stands for: the likeliest character has all the probability then."""


class Writing(genloom.RunningBatch):
    """A group that is being written: each row a prompt, or nothing yet."""

    places = GROUP

    def __init__(self, model: CharacterRNN) -> None:
        self._model = model
        self._prompts: dict[int, Continuation] = {}
        self._uniform: dict[int, list[float]] = {}
        """By row: a number from 0 to below 1 for each character that is still to be drawn, the next last."""
        self._logits = torch.empty(0)
        self._state = torch.empty(0)
        self._symbols: Tensor | None = None
        """What was drawn and not yet read."""

    def join(self, place: int, prompt: Continuation) -> None:
        """Read the start, alone."""
        self._read_on()
        model = self._model
        start = [model.vocabulary.start, *model.vocabulary.encode(prompt.start).tolist()]
        logits, state = model(torch.tensor([start], device=model.embedding.weight.device))
        if not self._prompts:
            self._logits = logits.new_zeros(GROUP, logits.shape[2])
            self._state = state.new_zeros(*state.shape[:2], GROUP, state.shape[3])
        self._logits[place] = logits[0, -1]
        self._state[:, :, place] = state[:, :, 0]
        source = torch.Generator().manual_seed(prompt.seed)
        numbers: list[float] = torch.rand(
            prompt.max_chars, generator=source, dtype=torch.float64
        ).tolist()
        self._prompts[place], self._uniform[place] = prompt, numbers[::-1]

    def leave(self, place: int) -> None:
        """Free the row."""
        del self._prompts[place], self._uniform[place]

    def step(self) -> dict[int, genloom.Piece]:
        """Draw a character in each row."""
        self._read_on()
        characters, prompts = self._model.vocabulary.characters, self._prompts
        uniform = _column({place: left.pop() for place, left in self._uniform.items()}, 0)
        temperature = _column({place: prompt.temperature for place, prompt in prompts.items()}, 1)
        top_p = _column({place: prompt.top_p for place, prompt in prompts.items()}, 1)
        # Without the unknown, which is the last; in float64, whose sums are closer to 1.
        known = self._logits[:, : self._model.vocabulary.unknown].cpu().double()
        self._symbols = draw(torch.softmax(known / temperature.clamp(min=COLDEST), 1), top_p, uniform)
        drawn = self._symbols.tolist()
        pieces = {
            place: genloom.Piece(genloom.Text(characters[drawn[place]]), not self._uniform[place])
            for place in prompts
        }
        for place, piece in pieces.items():
            if piece.last:
                self.leave(place)
        return pieces

    def _read_on(self) -> None:
        """Read what was drawn, where anything is still written."""
        if self._symbols is not None and self._prompts:
            symbols = self._symbols[:, None].to(self._logits.device)
            logits, self._state = self._model(symbols, self._state)
            self._logits = logits[:, 0]
        self._symbols = None


def write(model: CharacterRNN, prompts: Sequence[Continuation]) -> Iterator[list[str]]:
    """Continue up to `GROUP` prompts.

    Yields:
        What each prompt goes on with: one character, or "" once it has all that it asked for.
    """
    group = Writing(model)
    for place, prompt in enumerate(prompts):
        group.join(place, prompt)
    while pieces := group.step():
        yield [str(pieces[place].sample) if place in pieces else "" for place in range(len(prompts))]
        if all(piece.last for piece in pieces.values()):
            return


def draw(probabilities: Tensor, top_p: Tensor, uniform: Tensor) -> Tensor:
    """Draw a symbol in each row, [batch], from the smallest set of likeliest ones of a probability.

    By inversion of the distribution function, so that each row needs one uniform number.

    Args:
        probabilities: Of each symbol, [batch, symbols], float64.
        top_p: The probability that the set reaches, [batch, 1] (Holtzman et al. 2020, equation 2).
        uniform: A number from 0 to below 1 for each row, [batch, 1].
    """
    likeliest, symbols = torch.sort(probabilities, dim=1, descending=True, stable=True)
    reached = likeliest.cumsum(1)
    last = (reached < top_p).sum(1, keepdim=True).clamp(max=symbols.shape[1] - 1)
    place = (reached <= uniform * reached.gather(1, last)).sum(1, keepdim=True)
    return symbols.gather(1, torch.minimum(place, last))[:, 0]


def _column(values: Mapping[int, float], other: float) -> Tensor:
    """One value a row, [`GROUP`, 1], and another where a row has none."""
    filled = [values.get(place, other) for place in range(GROUP)]
    return torch.tensor(filled, dtype=torch.float64)[:, None]
