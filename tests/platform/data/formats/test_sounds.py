"""Formats of sounds, from files that soundfile writes and lines in the layout as published."""

import io
import struct

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError
from reading import rows_of, written

from genloom import Audio, BadRow
from genloom.errors import DataError
from genloom.registry import load_format
from genloom_platform.data.formats import sounds

RATE_HZ = 44_100


def tone(hz, rate_hz=RATE_HZ, length_s=0.5):
    """A sine that fades in and out, so that a resampler has no edge to ring at."""
    time = np.arange(round(rate_hz * length_s)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * hz * time) * np.sin(np.pi * time / length_s) ** 2


def sound(waveform, kind="WAV", subtype=None, rate_hz=RATE_HZ):
    """A file; the waveform has the shape [time] or [time, channels]."""
    sink = io.BytesIO()
    soundfile.write(sink, waveform, rate_hz, subtype, format=kind)
    return sink.getvalue()


STEREO = np.stack([tone(440), tone(1000)], 1)
SOUNDS = {
    "hum/1.wav": sound(tone(440), "WAV", "PCM_16"),
    "hum/2.FLAC": sound(tone(440), "FLAC", "PCM_24"),
    "hum/3.wav": sound(tone(440, 8000), "WAV", "FLOAT", 8000),
    "hum/4.ogg": sound(tone(440), "OGG", "VORBIS"),
    "mix/1.mp3": sound(tone(440), "MP3"),
    "mix/2.wav": sound(np.stack([tone(440) * 2, tone(440) * 0], 1), "WAV", "PCM_24"),
}
TOLERANCES = {"4.ogg": 0.02, "1.mp3": 0.03}


@pytest.mark.parametrize("top", ["", "sounds/"])
def test_sounds_of_every_kind_come_in_at_one_rate(tmp_path, top):
    files = written(tmp_path, {top + name: content for name, content in SOUNDS.items()})
    reader = load_format("audiofolder")()
    columns = reader.columns(files)
    assert (columns["audio"].rate_hz, columns["audio"].channels) == (22_050, 1)
    assert columns["label"].names == ("hum", "mix")
    rows = rows_of(reader, files)
    assert [row.key for row in rows] == [top + name for name in SOUNDS]
    for row in rows:
        audio = row.values["audio"]
        assert isinstance(audio, Audio)
        assert (audio.rate_hz, audio.waveform.shape) == (22_050, (1, 11_025))
        tolerance = TOLERANCES.get(row.key[-5:], 1e-3)
        np.testing.assert_allclose(audio.waveform[0], tone(440, 22_050), atol=tolerance)
        assert row.values["label"] == int("mix" in row.key)
        assert row.split is None


def test_a_sound_that_has_the_rate_already_comes_in_value_by_value(tmp_path):
    values = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    files = written(tmp_path, {"train/1.wav": sound(values, rate_hz=16_000)})
    reader = load_format("audiofolder")(rate_hz=16_000)
    (row,) = rows_of(reader, files)
    np.testing.assert_allclose(row.values["audio"].waveform, [values / 32768], atol=1e-6)
    assert row.split == "train"
    assert list(reader.columns(files)) == ["audio"]


def test_channels_are_kept_where_mono_is_not_wanted(tmp_path):
    files = written(tmp_path, {"0.wav": b"broken", "1.wav": sound(STEREO), "2.wav": sound(tone(440))})
    reader = load_format("audiofolder")(mono=False, rate_hz=RATE_HZ)
    assert reader.columns(files)["audio"].channels == 2
    broken, stereo, mono = rows_of(reader, files)
    assert isinstance(broken, BadRow)
    np.testing.assert_allclose(stereo.values["audio"].waveform, STEREO.T, atol=1e-4)
    assert mono.reason == "the sound has 1 channels where the first has 2; mono = true averages them"


def test_block_by_block_gives_the_same_as_at_once(tmp_path, monkeypatch):
    files, reader = written(tmp_path, SOUNDS), load_format("audiofolder")()
    whole = [row.values["audio"].waveform for row in rows_of(reader, files)]
    monkeypatch.setattr(sounds, "BLOCK_VALUES", 1000)
    monkeypatch.setattr(sounds, "MEMORY_BYTES", 1000)
    for expected, row in zip(whole, rows_of(reader, files), strict=True):
        np.testing.assert_allclose(row.values["audio"].waveform, expected, atol=1e-6)


def with_nan(value):
    waveform = tone(440)
    waveform[1000] = value
    return sound(waveform, "WAV", "FLOAT")


WAV, FLAC, MP3 = SOUNDS["hum/1.wav"], SOUNDS["hum/2.FLAC"], SOUNDS["mix/1.mp3"]
BAD = {
    "zero.wav": (b"", "the file is empty"),
    "no.wav": (b"no sound at all", "not a readable sound file"),
    "text.mp3": (b"no sound at all" * 9000, "not a readable sound file"),
    "nan.wav": (with_nan(np.nan), "the sound holds values that are not finite"),
    "inf.wav": (with_nan(-np.inf), "the sound holds values that are not finite"),
    "none.wav": (sound(np.zeros(0)), "the sound is empty"),
    "cut.wav": (WAV[:-100], "the file is cut short: 100 bytes of its sound are missing"),
    "head.wav": (WAV[:40], "not a readable sound file"),
    "cut.flac": (FLAC[: len(FLAC) // 2], "the sound cannot be decoded"),
    "cut.mp3": (MP3[: len(MP3) // 2], "the file is cut short: 0."),
    "head.ogg": (SOUNDS["hum/4.ogg"][:100], "not a readable sound file"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_sound_that_cannot_be_read_is_a_bad_row_that_says_why(tmp_path, name):
    content, reason = BAD[name]
    rows = rows_of(load_format("audiofolder")(), written(tmp_path, {name: content, "whole.wav": WAV}))
    (bad,) = [row for row in rows if isinstance(row, BadRow)]
    assert (bad.key, bad.content) == (name, content)
    assert bad.reason.startswith(reason)
    assert len(rows) == 2


def streamed():
    """A FLAC and a WAV whose headers do not say how long they are, as where they are written to a pipe."""
    flac = bytearray(FLAC)
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    return {"1.flac": flac, "2.wav": WAV[:40] + struct.pack("<I", 0xFFFFFFFF) + WAV[44:]}


def test_sounds_of_unknown_length_are_read_up_to_their_end(tmp_path):
    for row in rows_of(load_format("audiofolder")(), written(tmp_path, streamed())):
        np.testing.assert_allclose(row.values["audio"].waveform[0], tone(440, 22_050), atol=1e-3)


def test_too_long_a_sound_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("it was decoded")

    files = written(tmp_path, {"1.wav": WAV})
    assert len(rows_of(load_format("audiofolder")(max_s=0.5), files)[0].values) == 1
    monkeypatch.setattr(sounds, "_blocks", never)
    (bad,) = rows_of(load_format("audiofolder")(max_s=0.4), files)
    assert bad.reason == "the sound has 0.5 s or more, max_s is 0.4"


def test_too_long_a_sound_of_unknown_length_is_refused_while_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(sounds, "BLOCK_VALUES", 1000)
    rows = rows_of(load_format("audiofolder")(max_s=0.1), written(tmp_path, streamed()))
    assert [row.reason for row in rows] == [
        "the sound has 0.1 s or more, max_s is 0.1",
        "the sound has 0.5 s or more, max_s is 0.1",  # of a WAV, libsndfile knows its file's length
    ]


def test_damage_anywhere_in_a_sound_never_stops_the_import(tmp_path):
    rng = np.random.default_rng(0)
    contents = {}
    for name, whole in SOUNDS.items():
        for number in range(20):
            damaged = bytearray(whole)
            for _ in range(number):
                damaged[rng.integers(0, min(200, len(damaged)))] = rng.integers(0, 256)
            contents[f"{number:02}/{name.replace('/', '-')}"] = bytes(damaged)
    rows = rows_of(load_format("audiofolder")(max_s=60), written(tmp_path, contents))
    assert len(rows) == len(contents)
    assert any(isinstance(row, BadRow) for row in rows)


def test_a_folder_without_sounds_and_wrong_options_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no sound \(.wav, .flac, .ogg, .mp3\) but 1 .txt file"):
        load_format("audiofolder")().columns(written(tmp_path, {"a.txt": b"x"}))
    with pytest.raises(DataError, match="holds no sound that can be read"):
        load_format("audiofolder")(mono=False).columns(written(tmp_path, {"a.wav": b"x"}))
    for options in ({"rate_hz": 0}, {"max_s": 0}, {"channels": 2}):
        with pytest.raises(ValidationError):
            load_format("audiofolder")(**options)


LINES = [
    'LJ001-0001|He said "1 | 2|He said "one or two',
    "LJ001-0001|Printing in 1452, at 5%|Printing in fourteen fifty-two, at five percent",
    'LJ001-0002|"Grüße, said he|"Grüße, said he',
    "LJ001-0003|is missing|is missing",
    "",
    "LJ001-0004|broken|broken",
    "LJ001-0002| |",
    "LJ001-0002|the end|the end",
]
VOICES = {
    "wavs/LJ001-0001.wav": sound(tone(440, 22_050), rate_hz=22_050),
    "wavs/LJ001-0002.wav": sound(tone(1000, 22_050), rate_hz=22_050),
    "wavs/LJ001-0004.wav": b"broken",
    "README": b"x",
}


def ljspeech(root, top="", table=None):
    content = "\n".join(LINES).encode() if table is None else table
    contents = {**VOICES, "metadata.csv": content}
    return written(root, {top + name: content for name, content in contents.items()})


@pytest.mark.parametrize("top", ["", "LJSpeech-1.1/"])
@pytest.mark.parametrize("step_bytes", [16, 1 << 20])
def test_ljspeech_comes_in_line_by_line(tmp_path, monkeypatch, top, step_bytes):
    monkeypatch.setattr("genloom_platform.data.formats.ljspeech.STEP_BYTES", step_bytes)
    files, reader = ljspeech(tmp_path, top), load_format("ljspeech")()
    assert reader.columns(files)["audio"].rate_hz == 22_050
    assert reader.columns(files)["text"].kind == "text"
    rows = rows_of(reader, files)
    assert [row.key for row in rows] == [f"{top}metadata.csv:{n}" for n in range(1, 9)]
    good = {int(row.key[-1]): row.values for row in rows if not isinstance(row, BadRow)}
    assert {number: values["text"] for number, values in good.items()} == {
        2: "Printing in fourteen fifty-two, at five percent", 3: '"Grüße, said he', 8: "the end",
    }  # fmt: skip
    for number, hz in ((2, 440), (3, 1000), (8, 1000)):
        audio = good[number]["audio"]
        np.testing.assert_allclose(audio.waveform, [tone(hz, 22_050)], atol=1e-4)
    bad = {int(row.key[-1]): row for row in rows if isinstance(row, BadRow)}
    assert {number: row.reason for number, row in bad.items()} == {
        1: "the line has 4 fields, not 3: id|text|normalised text",
        4: "wavs/LJ001-0003.wav is missing",
        5: "the line has 1 fields, not 3: id|text|normalised text",
        6: "wavs/LJ001-0004.wav: not a readable sound file: Format not recognised.",
        7: "the text is empty",
    }
    assert bad[4].content == b"LJ001-0003|is missing|is missing\n"


def test_ljspeech_gives_the_text_as_it_was_written_and_another_rate(tmp_path):
    reader = load_format("ljspeech")(normalised=False, rate_hz=16_000)
    values = rows_of(reader, ljspeech(tmp_path))[1].values
    assert values["text"] == "Printing in 1452, at 5%"
    np.testing.assert_allclose(values["audio"].waveform, [tone(440, 16_000)], atol=1e-3)


def test_ljspeech_passes_over_a_byte_order_mark_and_tells_what_is_not_utf8(tmp_path):
    table = b"\xef\xbb\xbfLJ001-0001|a|a\r\nLJ001-0002|\xff|\xff\r\n../wavs/LJ001-0001|c|c\r\n"
    good, latin, outside = rows_of(load_format("ljspeech")(), ljspeech(tmp_path, table=table))
    assert good.values["text"] == "a"
    assert latin.reason == "the line is not UTF-8 (byte 0xff)"
    assert outside.reason == "wavs/../wavs/LJ001-0001.wav is missing"


@pytest.mark.parametrize(("contents", "message"), [
    ({"wavs/1.wav": WAV}, "holds no metadata.csv; give the folder"),
    ({"a/metadata.csv": b"", "b/metadata.csv": b""}, "holds a/metadata.csv, b/metadata.csv; give"),
    ({"metadata.csv": b"1|a|a"}, "holds metadata.csv but no sound in wavs/"),
])  # fmt: skip
def test_what_is_no_ljspeech_is_told(tmp_path, contents, message):
    with pytest.raises(DataError, match=message):
        load_format("ljspeech")().columns(written(tmp_path, contents))
