"""What a caller asks of a model that writes: `Continuation`."""

from pydantic import Field

import genloom
from genloom import PromptError
from genloom_text.vocabulary import Vocabulary

MAX_CHARS = 4096
"""The longest start and the longest continuation."""
SHOWN = 8
"""How many unknown characters an error lists."""


class Continuation(genloom.Prompt):
    """A text to continue."""

    start: str = Field(default="", max_length=MAX_CHARS)
    """The text to continue; the sample is what follows, without it. Empty to write from nothing."""
    max_chars: int = Field(default=256, ge=1, le=MAX_CHARS)
    """Characters to write. A passage has no end of its own, so the sample has this many."""
    temperature: float = Field(default=1.0, ge=0, le=10)
    """Below 1, likely characters become likelier, at 0 certain; above 1, unlikely ones become likelier."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the likeliest characters that together have this probability (Holtzman et al. 2020)."""


def check_start(prompt: Continuation, vocabulary: Vocabulary) -> None:
    """Refuse a start with characters that the model has never seen.

    Raises:
        PromptError: There are some; they are named.
    """
    unknown = vocabulary.unknown_in(prompt.start)
    if not unknown:
        return
    named = ", ".join(f"{character!a} (U+{ord(character):04X})" for character in unknown[:SHOWN])
    more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
    raise PromptError(
        f"start holds {named}{more}: the model has learnt from texts without such characters; "
        f"leave them out of start"
    )
