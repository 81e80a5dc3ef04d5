"""Cleaning of text: by rules that know no language.

Source of the quality rules: J. Rae et al., Scaling Language Models (Gopher), 2021, appendix A.1.1.
"""

import re
import unicodedata
import zlib
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from genloom_platform.data.clean.rules import TextRules
from genloom_platform.data.item import Dropped, Item

PERMUTATIONS = 128
SHINGLE_WORDS = 5
SCHEME = "affine32"
COMPRESSIBLE_CHARS = 200
"""Shorter texts shrink little, whatever they say."""


def clean_text(rules: TextRules, column: str, item: Item) -> Item | Dropped:
    """The row with its text normalised, or why it is dropped."""
    text: str = item.values[column]
    changed = normalised(rules, text)
    fault = _fault(rules, changed)
    if fault:
        return Dropped(item, *fault)
    return item if changed == text else item.having(**{column: changed})


def normalised(rules: TextRules, text: str) -> str:
    """The text in the wanted form."""
    if rules.normalise:
        text = unicodedata.normalize(rules.normalise, text).replace("\r\n", "\n").replace("\r", "\n")
        text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
    if rules.collapse_spaces:
        text = re.sub(r"[^\S\n]+", " ", text)
        text = re.sub(r" ?\n ?", "\n", text)
        text = re.sub(r"\n{3,}", "\n\n", text).strip()
    return text


def _fault(rules: TextRules, text: str) -> tuple[str, str] | None:
    if rules.min_chars and len(text) < rules.min_chars:
        return "too short", f"{len(text)} characters; {rules.min_chars} are wanted"
    if rules.max_chars and len(text) > rules.max_chars:
        return "too long", f"{len(text)} characters; {rules.max_chars} are allowed"
    checks = (
        ("few letters", rules.min_letters, _letters, -1),
        ("repeated lines", rules.max_repeated_lines, _repeated_lines, 1),
        ("repeated words", rules.max_repeated_words, _repeated_words, 1),
        ("boilerplate", rules.max_compression, _compression, 1),
    )
    for rule, bound, measure, sign in checks:
        if bound is not None and sign * (value := measure(text)) > sign * bound:
            return rule, f"{value:.3g}, and the bound is {bound:g}"
    return None


def _letters(text: str) -> float:
    return sum(c.isalpha() for c in text) / max(1, len(text))


def _repeated_lines(text: str) -> float:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    counts = Counter(lines)
    return sum(count for count in counts.values() if count > 1) / max(1, len(lines))


def _repeated_words(text: str) -> float:
    words = text.split()
    triples = [" ".join(words[at : at + 3]) for at in range(len(words) - 2)]
    counts = Counter(triples)
    repeated = sum(len(triple) * count for triple, count in counts.items() if count > 1)
    return repeated / max(1, sum(len(triple) for triple in triples))


def _compression(text: str) -> float:
    if len(text) < COMPRESSIBLE_CHARS:
        return 1.0
    data = text.encode()
    return len(data) / len(zlib.compress(data, 6))


def near_signature(text: str) -> NDArray[np.uint32]:
    """The MinHash signature of the text's word 5-grams (characters, where there are few words), shape [128].

    Source: A. Broder, On the Resemblance and Containment of Documents, 1997; by datasketch.
    """
    from datasketch import MinHash

    words = text.lower().split()
    pieces: list[str] | str = words if len(words) > SHINGLE_WORDS else text.lower()
    joint = " " if isinstance(pieces, list) else ""
    last = max(1, len(pieces) - SHINGLE_WORDS + 1)
    shingles = {joint.join(pieces[at : at + SHINGLE_WORDS]).encode() for at in range(last)}
    sketch = MinHash(num_perm=PERMUTATIONS, seed=1, scheme=SCHEME)
    sketch.update_batch(list(shingles))
    return np.asarray(sketch.hashvalues, np.uint32)
