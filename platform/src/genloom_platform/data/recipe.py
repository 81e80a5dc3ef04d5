"""`Recipe`: how a source becomes a dataset, from one YAML file or `key=value` options.

    format: imagefolder
    source: s3://acme/photos
    split: {test: 0.1, by: photographer}
    clean: {images: {min_side: 64, near_duplicates: 4}}
    bad_rows: quarantine

Errors come all at once, before anything is read or written.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from genloom import registry
from genloom.augment import AudioAugment, ImageAugment, TextAugment
from genloom.errors import GenloomError, InvalidConfig, Problem
from genloom.formats import Format
from genloom.problems import problems_of
from genloom_platform.data.clean.rules import Cleaning
from genloom_platform.settings import Settings


class Split(Settings):
    """Which rows are held out: decided for each row alone, so it is the same in every import."""

    test: float = Field(0.1, ge=0, lt=1)
    """The share of rows that is held out for the final evaluation."""
    validation: float = Field(0, ge=0, lt=1)
    """The share of rows that is held out for choosing between models."""
    by: str | None = None
    """A column whose rows stay together, so that no speaker or user is in two splits."""

    @model_validator(mode="after")
    def _leaves_something(self) -> "Split":
        if self.test + self.validation >= 1:
            raise ValueError(
                f"test {self.test:g} and validation {self.validation:g} leave nothing to train on"
            )
        return self


class Labels(Settings):
    """Labels from a table: a CSV with a header, or JSON Lines."""

    file: str
    """Its path."""
    key: str = "key"
    """The column that names the row, by the row's key; `genloom data export` writes them."""
    missing: Literal["keep", "drop", "fail"] = "keep"
    """What happens to rows that the table does not name; where it adds a column, none can be kept."""


class Augmentation(Settings):
    """Augmented copies of the training rows, beside the originals."""

    copies: int = Field(1, ge=1, le=100)
    """How many of each row."""
    images: ImageAugment = Field(default_factory=ImageAugment)
    audio: AudioAugment = Field(default_factory=AudioAugment)
    text: TextAugment = Field(default_factory=TextAugment)


class Recipe(Settings):
    """All that decides what a dataset holds, given its source."""

    format: str
    """The format's name (genloom data formats)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The format's own options."""
    source: str | None = None
    """A path, file:///… or s3://bucket/…."""
    split: Split | None = None
    """Splits by share; as published where left out, or a tenth for the test if nothing is published."""
    clean: Cleaning = Field(default_factory=lambda: Cleaning.model_validate({}))
    labels: Labels | None = None
    """Labels to add or correct."""
    augment: Augmentation | None = None
    bad_rows: Literal["fail", "quarantine"] = "fail"
    """What happens at a row that cannot be read: an error, or it is set aside."""
    bad_share: float = Field(0.01, ge=0, le=1)
    """The greatest share of rows that may be set aside; with more, the import fails."""
    seed: int = Field(0, ge=0)
    """Of the augmentation and of the order of rows in the shards."""

    def reader(self) -> Format:
        """The configured format."""
        return registry.load_format(self.format).model_validate(self.options)

    def stated(self) -> dict[str, Any]:
        """What differs from the defaults, for the record."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"format", "source"})


def resolve(values: Mapping[str, Any], reader: type[Format] | None = None) -> Recipe:
    """A checked recipe; of a format that is not found by its name, where `reader` is given.

    Raises:
        InvalidConfig: All that is wrong with it.
        UnknownName: There is no such format.
    """
    problems: list[Problem] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(dict(values))
    except ValidationError as error:
        problems += problems_of(error, Recipe)
    cls = reader or registry.load_format(str(values.get("format")))
    try:
        cls.model_validate(values.get("options", {}))
    except ValidationError as error:
        problems += problems_of(error, cls)
    source = values.get("source")
    if cls.needs_source and source is None:
        problems.append(Problem("source", "", f"the format reads {cls.reads}", "give its path"))
    if not cls.needs_source and source is not None:
        problems.append(
            Problem("source", repr(source), "the format brings its own data", "leave the source out")
        )
    if problems or recipe is None:
        raise InvalidConfig("the import", problems)
    return recipe


def formats() -> dict[str, str]:
    """Every format and what it reads; one that cannot be loaded says why."""
    found: dict[str, str] = {}
    for name in registry.available(registry.FORMATS):
        try:
            found[name] = registry.load_format(name).reads
        except GenloomError as error:
            found[name] = f"({error})"
    return found
