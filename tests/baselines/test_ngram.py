"""The yardstick itself: it is a distribution, and gives what can be worked out by hand."""

import importlib.util
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).with_name("ngram.py")
TEXT = "the cat sat on the mat, and the rat ran at the cat; then the hat sat on the rat.\n" * 6


def _load():
    spec = importlib.util.spec_from_file_location("ngram_baseline", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


ngram = _load()


@pytest.mark.parametrize("context", ["", "t", "the", "and the c", "xyz", "th€"])
def test_probabilities_of_all_characters_and_of_the_unknown_sum_to_one(context: str):
    model = ngram.NGram.trained(TEXT)
    outcomes = [*sorted(model.counts.characters), "€"]
    total = sum(model.probabilities(context + outcome)[-1] for outcome in outcomes)
    assert total == pytest.approx(1)


def test_a_small_case_gives_what_can_be_worked_out_by_hand():
    model = ngram.NGram(ngram.Counts.of("aab", 2), np.full((3, ngram.BUCKETS), 0.5))
    uniform = 1 / 3  # a, b and the unknown
    of_a, of_b = (0.5 * 2 / 3 + 0.5 * uniform, 0.5 * 1 / 3 + 0.5 * uniform)
    b_after_a = 0.5 * 1 / 2 + 0.5 * of_b
    assert model.probabilities("ab") == pytest.approx([of_a, b_after_a])
    # b was never followed by anything, so only the unigram tells of what follows it.
    assert model.probabilities("ba") == pytest.approx([of_b, of_a])
    assert model.bits_per_character("ab") == pytest.approx(-math.log2(of_a * b_after_a) / 2)


def test_an_unknown_character_costs_which_one_it_is():
    model = ngram.NGram(ngram.Counts.of("aab", 1), np.full((2, ngram.BUCKETS), 0.5))
    expected = -math.log2(0.5 / 3) + math.log2(ngram.UNICODE_CHARACTERS - 2)
    assert model.bits_per_character("€") == pytest.approx(expected)


def test_each_step_of_expectation_maximisation_makes_the_held_out_text_likelier():
    cut = len(TEXT) // 2
    evidence = ngram.Evidence.of(TEXT[cut:], ngram.Counts.of(TEXT[:cut], 4))
    weights, bits = np.full((5, ngram.BUCKETS), 0.5), math.inf
    for _ in range(10):
        before, bits = bits, -np.log2(evidence.mixed(weights)[-1]).mean()
        assert bits < before
        weights = evidence.improved(weights)


def test_the_command_prints_the_bits_per_character(tmp_path: Path):
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text(TEXT, encoding="utf-8")
    test.write_text("the cat sat on the rat.\n", encoding="utf-8")
    answer = subprocess.run(
        [sys.executable, str(FILE), str(train), str(test)], capture_output=True, text=True, check=True
    )
    expected = ngram.NGram.trained(TEXT).bits_per_character("the cat sat on the rat.\n")
    assert answer.stdout == f"{expected:.4f} bits per character (4-gram, 24 characters)\n"
