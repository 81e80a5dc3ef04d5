"""Samples as files: which formats are made of what, and which of them a request asks for."""

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Response

from genloom import Audio, Image
from genloom_platform.serve.errors import Refusal
from genloom_platform.serve.model import Card

MODEL_HEADER, SEED_HEADER = "Genloom-Model", "Genloom-Seed"
OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
"""The rates that Opus knows (RFC 6716, 2)."""
MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
PCM_RATE_HZ = 24000
"""The rate of raw PCM, as clients of OpenAI's API expect it."""


@dataclass(frozen=True)
class Format:
    """A file format."""

    makes: str
    """What it is a format of, as in `Card.makes`."""
    media_type: str
    write: Callable[[bytes], bytes]
    """From the file that the model's sample comes as."""


def _same(data: bytes) -> bytes:
    return data


def _webp(data: bytes) -> bytes:
    """WebP without loss."""
    from PIL import Image as pil

    array = Image.from_bytes(data).array
    buffer = io.BytesIO()
    # WebP has no grey pictures.
    pil.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).convert(
        "RGBA" if array.shape[2] == 4 else "RGB"
    ).save(buffer, "webp", lossless=True)
    return buffer.getvalue()


def _sound(container: str, subtype: str, rates_hz: tuple[int, ...] = ()) -> Callable[[bytes], bytes]:
    def write(data: bytes) -> bytes:
        import soundfile

        audio = _at_rate(Audio.from_bytes(data), rates_hz)
        buffer = io.BytesIO()
        soundfile.write(
            buffer, audio.waveform.T, audio.rate_hz, format=container, subtype=subtype, endian="FILE"
        )
        return buffer.getvalue()

    return write


def _pcm(data: bytes) -> bytes:
    """One channel of 16-bit little-endian values, without a header."""
    import numpy as np

    audio = _at_rate(Audio.from_bytes(data), (PCM_RATE_HZ,))
    return np.rint(audio.waveform.mean(0).clip(-1, 1) * 32767).astype("<i2").tobytes()


def _at_rate(audio: Audio, rates_hz: tuple[int, ...]) -> Audio:
    """A sound at one of some rates: the lowest that loses nothing, or the highest."""
    if not rates_hz or audio.rate_hz in rates_hz:
        return audio
    import soxr

    rate_hz = min((rate for rate in rates_hz if rate >= audio.rate_hz), default=max(rates_hz))
    return Audio(soxr.resample(audio.waveform.T, audio.rate_hz, rate_hz).T, rate_hz)


FORMATS: Mapping[str, Format] = {
    "png": Format("image", "image/png", _same),
    "webp": Format("image", "image/webp", _webp),
    "wav": Format("audio", "audio/wav", _same),
    "flac": Format("audio", "audio/flac", _sound("FLAC", "PCM_16")),
    "ogg": Format("audio", "audio/ogg", _sound("OGG", "VORBIS")),
    "opus": Format("audio", "audio/opus", _sound("OGG", "OPUS", OPUS_RATES_HZ)),
    "mp3": Format("audio", "audio/mpeg", _sound("MP3", "MPEG_LAYER_III", MP3_RATES_HZ)),
    "pcm": Format("audio", "audio/pcm", _pcm),
    "mid": Format("notes", "audio/midi", _same),
    "txt": Format("text", "text/plain", _same),
}


def made_of(makes: str) -> list[str]:
    """The names of the formats of what a model makes."""
    return [name for name, each in FORMATS.items() if each.makes == makes]


def named(name: str, card: Card, param: str) -> Format:
    """The format of a name.

    Raises:
        Refusal: There is none, or it is none of what the model makes.
    """
    known = made_of(card.makes)
    if name not in known:
        message = f"{param} = {name[:40]!r}: {card.full_name} makes {card.makes}; give {_or(known)}"
        raise Refusal(422, "invalid_format", message, param=param)
    return FORMATS[name]


def accepted(accept: str, card: Card) -> Format | None:
    """The file that a request's `Accept` asks for; None where it asks for JSON, for anything, or in vain."""
    known = {FORMATS[name].media_type: FORMATS[name] for name in made_of(card.makes)}
    for part in accept.lower().split(","):
        media_type = part.partition(";")[0].strip()
        if media_type in known:
            return known[media_type]
        if media_type in ("application/json", "*/*"):
            return None
    return None


def written(sample: Any, form: Format) -> bytes:
    """A sample, as its model's process sent it, as a file."""
    data = sample.encode() if isinstance(sample, str) else base64.b64decode(sample["data"])
    return form.write(data)


def response(data: bytes, form: Format, model: str, seed: int) -> Response:
    """A file as an answer; its headers name the version that made it, `name@version`, and the seed."""
    headers = {MODEL_HEADER: model, SEED_HEADER: str(seed)}
    return Response(data, media_type=form.media_type, headers=headers)


def _or(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
