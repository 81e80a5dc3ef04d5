"""Ending a text before a stop word, also where the word comes in pieces."""

from collections.abc import Sequence


class Stop:
    """Lets a text through as far as it cannot be the beginning of a stop word.

    Attributes:
        reached: Whether a stop word has come.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._held = ""
        self.reached = False

    def feed(self, piece: str) -> str:
        """What of the text so far can be told now."""
        if self.reached:
            return ""
        text = self._held + piece
        found = [at for word in self._words if (at := text.find(word)) >= 0]
        if found:
            self.reached, self._held = True, ""
            return text[: min(found)]
        kept = max((_overlap(text, word) for word in self._words), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def rest(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, word: str) -> int:
    """How many characters at the end of a text may begin a word."""
    longest = min(len(text), len(word) - 1)
    return next((size for size in range(longest, 0, -1) if word.startswith(text[-size:])), 0)
