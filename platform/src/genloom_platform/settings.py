"""The base of all configuration: frozen, complete, unknown keys refused; and the YAML files that it stands in."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from genloom.errors import RequestError


class Settings(BaseModel):
    """A group of settings; each is documented under its field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def read_yaml(path: str) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        RequestError: The file is missing, or is no YAML mapping in UTF-8.
    """
    try:
        values: Any = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is no text in UTF-8 ({error.reason}); save it as that") from error
    except yaml.YAMLError as error:
        raise RequestError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise RequestError(f"{path} must hold keys and values, as in `steps: 1000`")
    return values
