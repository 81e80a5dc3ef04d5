"""What a generator is told of its dataset: `Data`, the kinds of column it may ask for, and `Row`.

A generator names the columns that it learns from in a class of its own:

    class Data(genloom.Data):
        image: ImageColumn
        label: ClassColumn | None = None

The platform fills it from the dataset's manifest and hands it to `build` and `prepare`. A dataset
that lacks `image`, or has text in it, is refused before anything starts; `label` may be absent.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np


class Facts(BaseModel):
    """The base of everything that a manifest states: frozen, complete, documented by field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ImageColumn(Facts):
    """Pictures. In a row: `genloom.Image`."""

    kind: Literal["image"] = "image"
    height: int | None = None
    """Pixels, or None where pictures differ."""
    width: int | None = None
    """Pixels, or None where pictures differ."""
    channels: int = 3
    """1 (grey), 3 (RGB) or 4 (RGBA)."""


class ClassColumn(Facts):
    """One of a closed set of classes. In a row: its index, an int."""

    kind: Literal["class"] = "class"
    names: tuple[str, ...]
    """The classes, by index."""


class TextColumn(Facts):
    """Text. In a row: a str."""

    kind: Literal["text"] = "text"
    vocabulary: tuple[str, ...] = ()
    """Every character that occurs in the training split, sorted."""
    max_chars: int = 0
    """The length of the longest text, in characters."""


class AudioColumn(Facts):
    """Sounds of one sample rate. In a row: `genloom.Audio`."""

    kind: Literal["audio"] = "audio"
    rate_hz: int
    channels: int = 1
    max_s: float = 0.0
    """The length of the longest sound, in seconds."""


class NotesColumn(Facts):
    """Scores. In a row: `genloom.Notes`."""

    kind: Literal["notes"] = "notes"
    max_s: float = 0.0
    """The length of the longest score, in seconds."""


class NumberColumn(Facts):
    """Numbers. In a row: an int or a float."""

    kind: Literal["number"] = "number"
    minimum: float
    maximum: float
    integer: bool = False


class IdColumn(Facts):
    """References to things that are counted but not named, such as users. In a row: an int."""

    kind: Literal["id"] = "id"
    count: int
    """Ids run from 0 to `count` - 1."""


class TensorColumn(Facts):
    """Arrays of one shape. In a row: a numpy array."""

    kind: Literal["tensor"] = "tensor"
    shape: tuple[int, ...]
    dtype: str = "float32"


Column = Annotated[
    ImageColumn
    | ClassColumn
    | TextColumn
    | AudioColumn
    | NotesColumn
    | NumberColumn
    | IdColumn
    | TensorColumn,
    Field(discriminator="kind"),
]
"""Any kind of column; `kind` tells which."""


class Data(BaseModel):
    """The base of a generator's own `Data`: one field for each column that it learns from.

    A field's name is the column's name, its type the column's kind. A field with a default is
    optional. Columns that are not named are not read.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Row(Mapping[str, Any]):
    """One row of a dataset: column name → value, and the random numbers that belong to it."""

    def __init__(
        self, values: Mapping[str, Any], seed: Sequence[int] = (0,), *, training: bool = False
    ) -> None:
        self._values = values
        self._seed = seed
        self.training = training
        """Whether the row is trained on: only then is it to be augmented."""

    def __getitem__(self, column: str) -> Any:
        return self._values[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @cached_property
    def rng(self) -> "np.random.Generator":
        """Random numbers for augmentation: a function of the run's seed, the epoch and the row."""
        import numpy as np

        return np.random.default_rng(self._seed)
