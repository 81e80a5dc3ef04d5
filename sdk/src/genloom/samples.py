"""What a generator makes: `Image`, `Text`, `Audio` and `Notes`, and how each becomes bytes and JSON.

All four are values. They are also pydantic types, so a prompt may hold one ("an image to enlarge"),
and the endpoint's schema then takes it as base64.
"""

import base64
import binascii
import io
import mimetypes
import wave
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from genloom.errors import RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

TOO_LARGE = "has over 64 million pixels, the most that are decoded; give a smaller one"
REMEDY = "send the file itself, in a form, or its bytes in base64"
MAX_PIXELS = 64_000_000
"""The largest image that is decoded, in pixels: a small file may claim any size."""


class Sample(ABC):
    """One thing that a generator made, or that a prompt holds."""

    media_type: ClassVar[str]
    """The IANA media type of `to_bytes`, as in "image/png"."""
    suffix: ClassVar[str]
    """The file name suffix, with its dot."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """The sample as a file of its media type."""

    @classmethod
    @abstractmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The sample that a file holds.

        Raises:
            ValueError: The bytes are no file of this kind.
        """

    def save(self, path: str | Path) -> Path:
        """Write the sample to a file and return its path.

        Raises:
            RequestError: The name tells of another format.
        """
        path = Path(path)
        told = mimetypes.guess_type(path.name)[0]
        if told and told.partition("/")[0] != "text" and path.suffix.lower() != self.suffix:
            raise RequestError(
                f"{path}: its name says {told}, and this is saved as {self.media_type}; "
                f"name it {path.with_suffix(self.suffix).name}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.to_bytes())
        return path

    def to_json(self) -> Any:
        """The sample as JSON: a text as a string, anything else as an object with base64 data."""
        return {
            "media_type": self.media_type,
            "data": base64.b64encode(self.to_bytes()).decode("ascii"),
        }

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The inverse of `to_json`; bare base64 and data URLs are understood too.

        Raises:
            ValueError: The value is no sample of this kind.
        """
        if isinstance(value, cls):
            return value
        data: Any = value
        if isinstance(value, dict):
            data = value.get("data")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if not isinstance(data, str):
            raise ValueError(f"must be base64, or an object with it as 'data'; {REMEDY}")
        if data.startswith("data:"):
            data = data.partition(",")[2]
        try:
            raw = base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise ValueError(f"is no base64; {REMEDY}") from error
        return cls.from_bytes(raw)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.from_json,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda sample: sample.to_json(), when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "title": cls.__name__,
            "type": "object",
            "properties": {
                "media_type": {"type": "string", "const": cls.media_type},
                "data": {"type": "string", "contentEncoding": "base64"},
            },
            "required": ["data"],
        }

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.to_bytes() == other.to_bytes()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self.to_bytes())


@dataclass(frozen=True, eq=False)
class Image(Sample):
    """A picture of 8-bit pixels."""

    array: "NDArray[np.uint8]"
    """Pixels, shape [height, width, channels], with 1 (grey), 3 (RGB) or 4 (RGBA) channels."""

    media_type: ClassVar[str] = "image/png"
    suffix: ClassVar[str] = ".png"

    def __post_init__(self) -> None:
        import numpy as np

        array = np.asarray(self.array)
        if array.ndim == 2:
            array = array[:, :, None]
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3, 4):
            raise ValueError(
                "an Image holds uint8 pixels of shape [height, width, 1, 3 or 4]; "
                f"these are {array.dtype} of shape {list(array.shape)}"
            )
        object.__setattr__(self, "array", array)

    @classmethod
    def from_chw(cls, pixels: "ArrayLike", low: float = 0.0, high: float = 1.0) -> Self:
        """An image from floats of shape [channels, height, width], as a network makes them.

        Args:
            pixels: An array or a CPU tensor without gradient.
            low: The value that becomes black; lower ones are clipped.
            high: The value that becomes white; higher ones are clipped.
        """
        import numpy as np

        scaled = (np.asarray(pixels, dtype=np.float32) - low) / (high - low)
        return cls(np.rint(scaled.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))

    def to_chw(self, low: float = 0.0, high: float = 1.0) -> "NDArray[np.float32]":
        """The inverse of `from_chw`: float32 of shape [channels, height, width]."""
        import numpy as np

        pixels = self.array.transpose(2, 0, 1).astype(np.float32, order="C")
        pixels /= 255  # in place: this runs for every image of every epoch
        if (low, high) != (0.0, 1.0):
            pixels *= high - low
            pixels += low
        return pixels

    def to_bytes(self) -> bytes:
        """The image as PNG."""
        from PIL import Image as pil

        array = self.array[:, :, 0] if self.array.shape[2] == 1 else self.array
        buffer = io.BytesIO()
        pil.fromarray(array).save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """An image from a PNG, JPEG or WebP file.

        Raises:
            ValueError: The bytes are no such file, are cut short, or claim over `MAX_PIXELS`.
        """
        import numpy as np
        from PIL import Image as pil

        try:
            with pil.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
                if picture.width * picture.height > MAX_PIXELS:
                    raise ValueError(f"{picture.width}x{picture.height} {TOO_LARGE}")
                if picture.mode.startswith("I"):  # 16 bits a pixel
                    return cls(np.rint(np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
                grey = picture.mode in ("1", "L")
                alpha = picture.mode in ("LA", "RGBA", "PA") or "transparency" in picture.info
                mode = "L" if grey else "RGBA" if alpha else "RGB"
                return cls(np.asarray(picture if picture.mode == mode else picture.convert(mode)))
        except pil.UnidentifiedImageError as error:
            raise ValueError("not a PNG, JPEG or WebP image; give such a file") from error
        except pil.DecompressionBombError as error:
            raise ValueError(TOO_LARGE) from error
        except (OSError, SyntaxError) as error:
            reason = str(error).rstrip(".")
            raise ValueError(
                f"not a readable PNG, JPEG or WebP image: {reason}; give a whole one"
            ) from error

    def _repr_png_(self) -> bytes:
        return self.to_bytes()


@dataclass(frozen=True, eq=False)
class Text(Sample):
    """A piece of text."""

    text: str

    media_type: ClassVar[str] = "text/plain"
    suffix: ClassVar[str] = ".txt"

    def __str__(self) -> str:
        return self.text

    def to_bytes(self) -> bytes:
        """The text as UTF-8."""
        return self.text.encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A text from UTF-8 bytes."""
        return cls(data.decode())

    def to_json(self) -> Any:
        """The text itself."""
        return self.text

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """A text from a string."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError("Text must be a string")
        return cls(value)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"title": "Text", "type": "string"}


@dataclass(frozen=True, eq=False)
class Audio(Sample):
    """A sound."""

    waveform: "NDArray[np.float32]"
    """Amplitudes from -1 to 1, shape [channels, time]."""
    rate_hz: int
    """Values a second."""

    media_type: ClassVar[str] = "audio/wav"
    suffix: ClassVar[str] = ".wav"

    def __post_init__(self) -> None:
        import numpy as np

        waveform = np.atleast_2d(np.asarray(self.waveform, dtype=np.float32))
        if waveform.ndim != 2 or not np.isfinite(waveform).all() or self.rate_hz <= 0:
            raise ValueError(
                "an Audio holds finite amplitudes of shape [channels, time] and a positive rate; "
                f"this has shape {list(waveform.shape)} at {self.rate_hz} Hz"
            )
        object.__setattr__(self, "waveform", waveform)

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return self.waveform.shape[1] / self.rate_hz

    def to_bytes(self) -> bytes:
        """The sound as 16-bit WAV."""
        import numpy as np

        pcm = np.rint(self.waveform.clip(-1, 1).T * 32767).astype("<i2")
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(pcm.shape[1])
            file.setsampwidth(2)
            file.setframerate(self.rate_hz)
            file.writeframes(pcm.tobytes())
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A sound from a 16-bit WAV file.

        Raises:
            ValueError: The bytes are no such file.
        """
        import numpy as np

        try:
            with wave.open(io.BytesIO(data), "rb") as file:
                if file.getsampwidth() != 2:
                    raise wave.Error(f"it has {8 * file.getsampwidth()} bits")
                frames = file.readframes(file.getnframes())
                channels, rate_hz = file.getnchannels(), file.getframerate()
                if len(frames) % (2 * channels):
                    raise EOFError
        except (wave.Error, EOFError) as error:
            reason = str(error) or "it is cut short"
            raise ValueError(
                f"not a readable WAV file: {reason}; give a whole one of 16 bits"
            ) from error
        pcm = np.frombuffer(frames, "<i2")
        return cls((pcm.reshape(-1, channels).T / 32767).astype(np.float32), rate_hz)

    def _repr_html_(self) -> str:
        encoded = base64.b64encode(self.to_bytes()).decode("ascii")
        return f'<audio controls src="data:audio/wav;base64,{encoded}"></audio>'


@dataclass(frozen=True)
class Note:
    """One note of a score."""

    pitch: int
    """MIDI number, 0 to 127; 60 is middle C."""
    start_s: float
    duration_s: float
    velocity: int = 80
    """Loudness, 1 to 127."""
    program: int = 0
    """General MIDI instrument, 0 to 127."""


@dataclass(frozen=True, eq=False)
class Notes(Sample):
    """A score: notes in time."""

    notes: Sequence[Note]

    media_type: ClassVar[str] = "audio/midi"
    suffix: ClassVar[str] = ".mid"

    def to_bytes(self) -> bytes:
        """The score as a Standard MIDI File, 480 ticks a beat at 120 beats a minute."""
        from genloom._midi import write_midi

        return write_midi(self.notes)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A score from a Standard MIDI File.

        Raises:
            ValueError: The bytes are no such file.
        """
        from genloom._midi import read_midi

        return cls(read_midi(data))
