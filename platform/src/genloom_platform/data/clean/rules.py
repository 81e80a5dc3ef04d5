"""The rules of cleaning, as settings. Nothing is cleaned unless it is asked for."""

from typing import Literal

from pydantic import Field

from genloom_platform.settings import Settings


class ImageRules(Settings):
    """Rules for every column of images."""

    min_side: int | None = Field(None, ge=1)
    """Smaller images (their shorter edge, in pixels) are dropped."""
    max_side: int | None = Field(None, ge=1)
    """Larger images (their longer edge, in pixels) are dropped."""
    max_aspect: float | None = Field(None, ge=1)
    """Images longer than this many times their width, or wider, are dropped."""
    mode: Literal["grey", "rgb", "rgba"] | None = None
    """The colour mode that is wanted."""
    other_mode: Literal["convert", "drop"] = "convert"
    """What happens to images in another mode."""
    size: tuple[int, int] | None = None
    """[height, width] to which images are brought: the middle is cut out, then scaled."""
    min_deviation: float | None = Field(None, ge=0, le=1)
    """Images whose pixels vary less (standard deviation, of 1) are dropped: blank scans and the like."""
    near_duplicates: int | None = Field(None, ge=0, le=16)
    """Drop images whose perceptual hashes (pHash, 64 bits) differ in at most this many bits from another's."""


class TextRules(Settings):
    """Rules for every column of text."""

    min_chars: int | None = Field(None, ge=1)
    max_chars: int | None = Field(None, ge=1)
    normalise: Literal["NFC", "NFKC"] | None = None
    """The Unicode form to which text is brought; control characters go, line ends become newlines."""
    collapse_spaces: bool = False
    """Runs of spaces become one, of empty lines one; spaces at the edges go."""
    min_letters: float | None = Field(None, ge=0, le=1)
    """The least share of characters that are letters, in any script."""
    max_repeated_lines: float | None = Field(None, ge=0, le=1)
    """The greatest share of lines that stand more than once."""
    max_repeated_words: float | None = Field(None, ge=0, le=1)
    """The greatest share of characters within word triples that stand more than once."""
    max_compression: float | None = Field(None, gt=1)
    """The greatest ratio by which zlib shrinks the text: boilerplate shrinks far more than prose."""
    near_duplicates: float | None = Field(None, gt=0, lt=1)
    """Drop texts whose word 5-grams are at least this similar (Jaccard, by MinHash) to another's."""


class AudioRules(Settings):
    """Rules for every column of sounds."""

    min_s: float | None = Field(None, gt=0)
    max_s: float | None = Field(None, gt=0)
    min_peak: float | None = Field(None, ge=0, le=1)
    """Sounds that never get louder (of 1) are dropped: silence."""
    max_clipped: float | None = Field(None, ge=0, le=1)
    """The greatest share of values that stand at the limit."""
    trim_db: float | None = Field(None, gt=0)
    """Cut away both ends where they are more than this many dB below the peak."""


class Cleaning(Settings):
    """What a dataset's rows must be like."""

    exact_duplicates: bool = False
    """Drop rows whose content (images, texts, sounds, notes; all columns where there are none) was there."""
    images: ImageRules = Field(default_factory=lambda: ImageRules.model_validate({}))
    text: TextRules = Field(default_factory=lambda: TextRules.model_validate({}))
    audio: AudioRules = Field(default_factory=lambda: AudioRules.model_validate({}))
