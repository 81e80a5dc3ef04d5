import io

import numpy as np
import pytest
from PIL import Image as Picture
from pydantic import BaseModel, ValidationError

from genloom import Audio, Image, Note, Notes, Text
from genloom.errors import RequestError


def an_image(channels=3):
    return Image(np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8))


SAMPLES = [
    *map(an_image, (1, 3, 4)),
    Text("Grüße, 世界\n"),
    Audio(np.linspace(-1, 1, 50, dtype=np.float32), 8000),
    Notes([Note(60, 0.0, 0.5), Note(64, 0.5, 0.25, 100, 24)]),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: type(s).__name__)
def test_samples_survive_bytes_and_json(sample):
    kind = type(sample)
    assert kind.from_bytes(sample.to_bytes()) == sample
    assert kind.from_json(sample.to_json()) == sample


class Holder(BaseModel):
    picture: Image | None = None
    words: Text | None = None
    sound: Audio | None = None


def test_samples_are_fields_of_prompts():
    holder = Holder(picture=an_image(), words=Text("a"), sound=SAMPLES[4])
    assert Holder.model_validate_json(holder.model_dump_json()) == holder
    schema = Holder.model_json_schema()
    assert "base64" in str(schema["properties"]["picture"])


@pytest.mark.parametrize(
    "value", [7, {}, {"data": 3}, "not base64!", "aGVsbG8=", {"data": "data:image/png;base64,AAAA"}]
)
def test_what_is_no_image_is_refused(value):
    with pytest.raises(ValidationError):
        Holder(picture=value)


def test_floats_become_pixels_and_back():
    floats = np.array([[[-1.0, 0.0, 1.0, 3.0]]])
    image = Image.from_chw(floats, low=-1, high=1)
    assert image.array[0, :, 0].tolist() == [0, 128, 255, 255]
    assert image.to_chw(-1, 1)[0, 0].tolist() == pytest.approx([-1, 0.00392, 1, 1], abs=1e-4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_of_a_picture_is_read(mode):
    picture = Picture.new(mode, (3, 2))
    buffer = io.BytesIO()
    picture.save(buffer, "jpeg" if mode == "CMYK" else "png")
    assert Image.from_bytes(buffer.getvalue()).array.shape[:2] == (2, 3)


def test_an_image_that_claims_too_many_pixels_is_refused():
    buffer = io.BytesIO()
    Picture.new("1", (9000, 9000)).save(buffer, "png")
    with pytest.raises(ValueError, match=r"9000x9000 has over 64 million pixels.*give a smaller"):
        Image.from_bytes(buffer.getvalue())


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2), np.float32), np.zeros((2, 2, 2), np.uint8), np.zeros(3)]
)
def test_what_is_no_array_of_pixels_is_refused(array):
    with pytest.raises(ValueError, match="uint8 pixels"):
        Image(array)


@pytest.mark.parametrize("waveform", [np.array([np.nan]), np.zeros((1, 1, 1))])
def test_what_is_no_sound_is_refused(waveform):
    with pytest.raises(ValueError, match="finite amplitudes"):
        Audio(waveform, 8000)


def test_saving_makes_the_folder(tmp_path):
    path = an_image().save(tmp_path / "new" / "a.png")
    assert Image.from_bytes(path.read_bytes()) == an_image()


def test_a_file_is_what_its_name_says(tmp_path):
    picture = Image(np.zeros((2, 2), np.uint8))
    with pytest.raises(
        RequestError, match=r"says image/jpeg, and this is saved as image/png; name it a\.png"
    ):
        picture.save(tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()
    for name in ("a.png", "b.PNG", "c", "d.v2"):
        assert picture.save(tmp_path / name).read_bytes() == picture.to_bytes()
    assert Text("x").save(tmp_path / "notes.md").read_text() == "x"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda wav: wav[:-1], "cut short"),
        (lambda wav: wav[:-2], "cut short"),
        (lambda wav: wav[:30], "cut short"),
        (lambda wav: wav[:34] + b"\x08" + wav[35:], "it has 8 bits"),
        (lambda wav: b"", "cut short"),
    ],
)
def test_a_sound_that_is_not_whole_is_told_with_what_to_give(change, words):
    wav = Audio(np.zeros((2, 10), np.float32), 16000).to_bytes()
    with pytest.raises(ValueError, match=f"{words}; give a whole one of 16 bits"):
        Audio.from_bytes(change(wav))
