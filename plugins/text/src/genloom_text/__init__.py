"""Text, character by character: a recurrent network that learns passages and continues them."""

from genloom_text.prompt import Continuation
from genloom_text.rnn import TextRNN

__all__ = ["Continuation", "TextRNN"]
