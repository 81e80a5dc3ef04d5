"""An interpolated n-gram model of characters: what a network that writes text must beat.

    python tests/baselines/ngram.py train.txt test.txt [--order 4]

Jelinek and Mercer, Interpolated Estimation of Markov Source Parameters from Sparse Data, 1980: the
relative frequency after the last order - 1 characters, mixed with that after one character fewer, and
so on down to the uniform distribution. The weight of each length depends on how much is known of what
follows a context, namely the mean count of its different successors (Chen and Goodman, An Empirical
Study of Smoothing Techniques for Language Modeling, 1999, section 2.3), in buckets of half an octave.
Weights are found by expectation maximisation on the last tenth of the training text, with counts of
the first nine tenths; then everything is counted. With a weight for each length alone, or with those
of Witten and Bell, the model is weaker.
"""

import argparse
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

UNICODE_CHARACTERS = 1_112_064
"""The scalar values of Unicode. Characters outside of the training text share one probability."""
BUCKETS = 64
HELD_OUT = 0.1
"""The share of the training text, at its end, that weights are found on."""
ITERATIONS = 50

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """How often each sequence of up to `order` characters occurs in a text."""

    order: int
    characters: frozenset[str]
    sequences: Counter[str]
    contexts: Counter[str]
    """How often each sequence is followed by a character."""
    successors: Counter[str]
    """By how many different characters."""

    @classmethod
    def of(cls, text: str, order: int) -> "Counts":
        """Count a text."""
        sequences: Counter[str] = Counter()
        for length in range(1, order + 1):
            sequences.update(text[at : at + length] for at in range(len(text) - length + 1))
        contexts: Counter[str] = Counter()
        for sequence, count in sequences.items():
            contexts[sequence[:-1]] += count
        successors = Counter(sequence[:-1] for sequence in sequences)
        return cls(order, frozenset(text), sequences, contexts, successors)


@dataclass(frozen=True)
class Evidence:
    """What the counts tell of each character of a text, by length of the sequence that it ends."""

    frequencies: Floats
    """Relative frequency, [order + 1, characters]; length 0 is the uniform distribution."""
    buckets: Indices
    """Bucket of the context, [order + 1, characters]; 0 where it never occurred, and weighs nothing."""

    @classmethod
    def of(cls, text: str, counts: Counts) -> "Evidence":
        """Look up each character of a text after those before it."""
        frequencies = np.zeros((counts.order + 1, len(text)))
        buckets = np.zeros((counts.order + 1, len(text)), np.int64)
        frequencies[0] = 1 / (len(counts.characters) + 1)  # one more for all unknown characters
        for end in range(1, len(text) + 1):
            for length in range(1, min(counts.order, end) + 1):
                context = text[end - length : end - 1]
                total = counts.contexts[context]
                if not total:
                    break  # what never occurred did not occur after more characters either
                frequencies[length, end - 1] = counts.sequences[text[end - length : end]] / total
                buckets[length, end - 1] = _bucket(total / counts.successors[context])
        return cls(frequencies, buckets)

    def mixed(self, weights: Floats) -> Floats:
        """The model's probability of each character with sequences of up to each length.

        Args:
            weights: Of each length and bucket, [order + 1, `BUCKETS`].

        Returns:
            Probabilities, [order + 1, characters]; the last row is the model's.
        """
        mixed = [self.frequencies[0]]
        for length in range(1, len(self.frequencies)):
            weight = self._weights(weights, length)
            mixed.append(weight * self.frequencies[length] + (1 - weight) * mixed[-1])
        return np.stack(mixed)

    def _weights(self, weights: Floats, length: int) -> Floats:
        bucket = self.buckets[length]
        return np.where(bucket > 0, weights[length, bucket], 0)

    def improved(self, weights: Floats) -> Floats:
        """Weights that make the text likelier: one step of expectation maximisation."""
        mixed = self.mixed(weights)
        better = weights.copy()
        responsible = np.ones(mixed.shape[1])  # that no longer sequence has given the character
        for length in range(len(mixed) - 1, 0, -1):
            bucket = self.buckets[length]
            share = self._weights(weights, length) * self.frequencies[length] / mixed[length]
            seen = np.bincount(bucket, responsible, BUCKETS)
            given = np.bincount(bucket, responsible * share, BUCKETS)
            better[length] = (given + 0.5) / (seen + 1)  # half a character each way for empty buckets
            responsible = responsible * (1 - share)
        return better


@dataclass(frozen=True)
class NGram:
    """A trained model."""

    counts: Counts
    weights: Floats
    """Of each length and bucket, [order + 1, `BUCKETS`]."""

    @classmethod
    def trained(cls, text: str, order: int = 4) -> "NGram":
        """Find weights on the end of a text, then count all of it."""
        cut = len(text) - round(len(text) * HELD_OUT)
        evidence = Evidence.of(text[cut:], Counts.of(text[:cut], order))
        weights = np.full((order + 1, BUCKETS), 0.5)
        for _ in range(ITERATIONS):
            weights = evidence.improved(weights)
        return cls(Counts.of(text, order), weights)

    def probabilities(self, text: str) -> Floats:
        """Of each character of a text after those before it; of all unknown ones together."""
        return Evidence.of(text, self.counts).mixed(self.weights)[-1]

    def bits_per_character(self, text: str) -> float:
        """What a text costs; an unknown character costs which one it is, too."""
        unknown = sum(character not in self.counts.characters for character in text)
        one_of = math.log2(UNICODE_CHARACTERS - len(self.counts.characters))
        return (unknown * one_of - float(np.log2(self.probabilities(text)).sum())) / len(text)


def _bucket(mean_count: float) -> int:
    """From 1, two for each doubling of the mean count of a context's successors."""
    return min(1 + math.floor(2 * math.log2(mean_count)), BUCKETS - 1)


def main(show: Callable[[str], None] = print) -> None:
    """Train on one file and tell what another one costs."""
    parser = argparse.ArgumentParser(description="Bits per character of an interpolated n-gram model.")
    parser.add_argument("train", type=Path, help="the text to learn from, UTF-8")
    parser.add_argument("test", type=Path, help="the text to measure, UTF-8")
    parser.add_argument("--order", type=int, default=4, help="the longest sequence (default 4)")
    given = parser.parse_args()
    train, test = (path.read_bytes().decode() for path in (given.train, given.test))
    bits = NGram.trained(train, given.order).bits_per_character(test)
    show(f"{bits:.4f} bits per character ({given.order}-gram, {len(test):,} characters)")


if __name__ == "__main__":
    main()
