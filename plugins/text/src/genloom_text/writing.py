"""How a model of characters writes: each prompt from its own seed, the same alone and in a batch.

A sum is rounded otherwise in a product of one row than in one of sixteen, and one bit in a
probability is enough to draw another character and so to write another text. Therefore nothing here
has a shape that depends on the other prompts: a start is read alone, and prompts are then continued
in groups of always the same number of rows, filled up where there are fewer. Within a product of one
shape, every row is computed in the same way.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from genloom_text.network import CharacterRNN
from genloom_text.prompt import Continuation

GROUP = 16
"""Rows of a group. On a CPU a full one loses nothing by the rule; a prompt alone takes 1.1 to 2.5 times
as long as a product of one row would. A power of two leaves no row over where a product is cut in tiles."""


def write(model: CharacterRNN, prompts: Sequence[Continuation]) -> Iterator[list[str]]:
    """Continue up to `GROUP` prompts.

    Yields:
        What each prompt goes on with: one character, or "" once it has all that it asked for.
    """
    logits, state = _read(model, prompts)
    device = logits.device
    uniform = _uniform(prompts)
    temperature = _column([prompt.temperature for prompt in prompts])
    top_p = _column([prompt.top_p for prompt in prompts])
    symbols = torch.empty(0)
    for step in range(uniform.shape[1]):
        if step:
            logits, state = model(symbols[:, None].to(device), state)
            logits = logits[:, 0]
        # Without the unknown, which is the last; in float64, whose sums are closer to 1.
        known = logits[:, : model.vocabulary.unknown].cpu().double()
        symbols = draw(torch.softmax(known / temperature, 1), top_p, uniform[:, step : step + 1])
        drawn = [model.vocabulary.characters[symbol] for symbol in symbols[: len(prompts)].tolist()]
        yield [
            character if step < prompt.max_chars else ""
            for prompt, character in zip(prompts, drawn, strict=True)
        ]


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


def _read(model: CharacterRNN, prompts: Sequence[Continuation]) -> tuple[Tensor, Tensor]:
    """Read each start alone: the logits of what follows it, and the state, of `GROUP` rows."""
    device = model.output.weight.device
    logits: list[Tensor] = []
    states: list[Tensor] = []
    for prompt in prompts:
        start = [model.vocabulary.start, *model.vocabulary.encode(prompt.start).tolist()]
        after, state = model(torch.tensor([start], device=device))
        logits.append(after[:, -1])
        states.append(state)
    missing = (0, 0, 0, GROUP - len(prompts))
    return F.pad(torch.cat(logits), missing), F.pad(torch.cat(states, 2), missing)


def _uniform(prompts: Sequence[Continuation]) -> Tensor:
    """One number from 0 to below 1 for each character of each prompt, [`GROUP`, time], by its seed."""
    numbers = torch.zeros(GROUP, max(prompt.max_chars for prompt in prompts), dtype=torch.float64)
    for row, prompt in enumerate(prompts):
        source = torch.Generator().manual_seed(prompt.seed)
        numbers[row, : prompt.max_chars] = torch.rand(
            prompt.max_chars, generator=source, dtype=torch.float64
        )
    return numbers


def _column(values: list[float]) -> Tensor:
    """One value a row, [`GROUP`, 1], with 1 for rows that only fill up."""
    filled = values + [1.0] * (GROUP - len(values))
    return torch.tensor(filled, dtype=torch.float64)[:, None]
