"""What a caller asks of a model: `Prompt`."""

import secrets

from pydantic import BaseModel, ConfigDict, Field

MAX_SEED = 2**31 - 1


class Prompt(BaseModel):
    """What a caller asks: one prompt, one answer. Generators add fields, documented and bounded.

    It is the request's schema at the endpoint, the options of `genloom generate --prompt`, and the
    playground's form. Fields may hold media: `picture: genloom.Image`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    seed: int = Field(default_factory=lambda: secrets.randbelow(MAX_SEED), ge=0, le=MAX_SEED)
    """The same seed gives the same sample, whatever else is in the batch. Drawn where none is given."""
