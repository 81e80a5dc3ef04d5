"""The base of all configuration: frozen, complete, unknown keys refused."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings; each is documented under its field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
