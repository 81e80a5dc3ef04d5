"""Augmentation of one text by its words, in any language that writes spaces."""

import csv
import io
import itertools
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError, model_validator

from genloom.augment.augmentation import Augmentation, Probability
from genloom.errors import DataError

if TYPE_CHECKING:
    import numpy as np

Word = Annotated[str, StringConstraints(pattern=r"\S")]
Synonyms = Mapping[Word, Annotated[tuple[Word, ...], Field(min_length=1)]]


class TextAugment(Augmentation):
    """Synonyms, then swapped words, then deleted ones.

    Source: Wei & Zou 2019, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
    Classification Tasks", without its random insertion, and with a probability for each word where
    the paper has a number of them. A word is what stands between whitespace, so a text of a script
    without spaces is one word and stays as it is.
    """

    delete: Probability = 0.0
    """Probability of each word to go; one word always stays."""
    swap: Probability = 0.0
    """Probability of each word to change places with another one, from anywhere in the text."""
    synonym: Probability = 0.0
    """Probability of each word that has synonyms to become one of them."""
    synonyms: Synonyms = Field(default_factory=dict)
    """Word → what it may become. A word is looked up as it stands, then in lower case, without the
    punctuation around it; its punctuation and its capitals are kept."""

    @model_validator(mode="after")
    def _synonyms_are_given(self) -> Self:
        if self.synonym and not self.synonyms:
            raise ValueError(
                f"synonym = {self.synonym} needs synonyms; give some, as read_synonyms(path) reads them, "
                "or set synonym to 0"
            )
        return self

    def __call__(self, text: str, rng: "np.random.Generator") -> str:
        """A text of the same or fewer words; the whitespace between words is kept as it is.

        Where a word goes, so does one of the two stretches of whitespace around it: of those, the one
        with more line breaks stays. A text with words in it never becomes empty.
        """
        if not (self.delete or self.swap or self.synonym):
            return text
        # Odd places hold words, even ones the whitespace before, between and after them.
        parts = re.split(r"(\S+)", text)
        words, gaps = parts[1::2], parts[::2]
        if not words:
            return text
        if self.synonym:
            words = self._replaced(words, rng)
        if self.swap and len(words) > 1:
            words = self._swapped(words, rng)
        kept = self._kept(len(words), rng) if self.delete else list(range(len(words)))
        return _joined(words, gaps, kept)

    def _replaced(self, words: list[str], rng: "np.random.Generator") -> list[str]:
        return [
            self._synonym(word, rng) if drawn < self.synonym else word
            for word, drawn in zip(words, rng.random(len(words)), strict=True)
        ]

    def _synonym(self, word: str, rng: "np.random.Generator") -> str:
        core = _without_punctuation(word)
        for known in (word, core):
            if known in self.synonyms:
                return word.replace(known, _one_of(self.synonyms[known], rng), 1)
        if core.lower() not in self.synonyms:
            return word
        chosen = _one_of(self.synonyms[core.lower()], rng)
        shout = len(core) > 1 and core.isupper()
        return word.replace(core, chosen.upper() if shout else _capitalised(chosen, core), 1)

    def _swapped(self, words: list[str], rng: "np.random.Generator") -> list[str]:
        words = list(words)
        for here, drawn in enumerate(rng.random(len(words))):
            if drawn < self.swap:
                there = (here + int(rng.integers(1, len(words)))) % len(words)
                words[here], words[there] = words[there], words[here]
        return words

    def _kept(self, count: int, rng: "np.random.Generator") -> list[int]:
        kept = [place for place, drawn in enumerate(rng.random(count)) if drawn >= self.delete]
        return kept or [int(rng.integers(count))]


def read_synonyms(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Synonyms from a file of UTF-8, for `TextAugment.synonyms`.

    Args:
        path: A `.json` file, one object of word → list of synonyms, or a `.csv` file, on each line a word
            and a synonym of it. Lines of the same word add up.

    Raises:
        DataError: The file is neither.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig")
        found = json.loads(text) if path.suffix.lower() == ".json" else _read_lines(text)
        return dict(TypeAdapter(Synonyms).validate_python(found))
    except (UnicodeDecodeError, json.JSONDecodeError, ValidationError, csv.Error) as error:
        raise DataError(
            f"{path} holds no synonyms: {error}; write a .json object of word → list of synonyms, "
            "or a .csv file with a word and a synonym on each line, in UTF-8"
        ) from error


def _read_lines(text: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    lines = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    for line in lines:
        if not line:
            continue
        if len(line) != 2:
            raise csv.Error(f"line {lines.line_num} has {len(line)} values, and 2 are needed")
        word, synonym = line
        found[word] = (*found.get(word, ()), synonym)
    return found


def _one_of(choices: tuple[str, ...], rng: "np.random.Generator") -> str:
    return choices[int(rng.integers(len(choices)))]


def _without_punctuation(word: str) -> str:
    # Not the regular expression \w: it takes the vowel signs of Indic scripts for punctuation.
    inside = [place for place, char in enumerate(word) if unicodedata.category(char)[0] not in "PS"]
    return word[inside[0] : inside[-1] + 1] if inside else ""


def _capitalised(synonym: str, word: str) -> str:
    return synonym[:1].upper() + synonym[1:] if word[:1].isupper() else synonym


def _joined(words: list[str], gaps: list[str], kept: list[int]) -> str:
    """The kept words, and between two of them the stretch of whitespace with the most line breaks."""
    text = gaps[0] + words[kept[0]]
    for before, here in itertools.pairwise(kept):
        text += max(gaps[before + 1 : here + 1], key=lambda gap: gap.count("\n")) + words[here]
    return text + gaps[-1]
