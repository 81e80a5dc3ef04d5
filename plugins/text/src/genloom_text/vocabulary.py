"""Characters as numbers: the vocabulary of a text column, and what lies outside of it."""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from genloom import TextColumn
from genloom.errors import WrongDataset

UNICODE_CHARACTERS = 1_112_064
"""The scalar values of Unicode: all that a character can be (Unicode 16.0, definition D76)."""


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a model: the known characters from 0, then `unknown`, then `start`."""

    characters: tuple[str, ...]

    @property
    def unknown(self) -> int:
        """The symbol of every other character. A model gives it a probability, and never writes it."""
        return len(self.characters)

    @property
    def start(self) -> int:
        """The symbol that is read before the first character, and never predicted."""
        return len(self.characters) + 1

    @property
    def unknown_nats(self) -> float:
        """What it costs to say which unknown character stands there, all of them being equally likely.

        With it the model's probabilities are a distribution over all texts, so that its likelihood may
        be compared with that of models which know more or fewer characters.
        """
        return math.log(UNICODE_CHARACTERS - len(self.characters))

    @cached_property
    def _symbols(self) -> dict[str, int]:
        return {character: symbol for symbol, character in enumerate(self.characters)}

    def encode(self, text: str) -> NDArray[np.int32]:
        """A text as symbols, [characters]."""
        symbols = self._symbols
        return np.array([symbols.get(character, self.unknown) for character in text], np.int32)

    def unknown_in(self, text: str) -> list[str]:
        """The characters of a text that are not known, sorted, each once."""
        return sorted(set(text) - self._symbols.keys())


@lru_cache(maxsize=16)
def _vocabulary(characters: tuple[str, ...]) -> Vocabulary:
    return Vocabulary(characters)


def vocabulary_of(text: TextColumn) -> Vocabulary:
    """The vocabulary of a column: every character of its training split.

    Raises:
        WrongDataset: There is no character in it.
    """
    if not text.vocabulary:
        raise WrongDataset(
            "the texts of column 'text' hold no character in the training split; "
            "import a text, or hold a smaller part of it out"
        )
    return _vocabulary(text.vocabulary)
