"""Formats of scores, from files that mido writes."""

import io

import mido
import numpy as np
import pytest
from reading import rows_of, written

from genloom import BadRow, Note, Notes
from genloom.errors import DataError
from genloom.registry import load_format


def score(*pitches, kind=1, key="Eb"):
    """A file in which notes of half a second follow one another, at 100 beats a minute."""
    file = mido.MidiFile(type=kind, ticks_per_beat=300)
    track = mido.MidiTrack([
        mido.MetaMessage("set_tempo", tempo=600_000),
        mido.MetaMessage("key_signature", key=key),
        mido.Message("program_change", program=5),
    ])  # fmt: skip
    for pitch in pitches:
        track.append(mido.Message("note_on", note=pitch, velocity=70))
        track.append(mido.Message("note_off", note=pitch, time=250))
    file.tracks.append(track)
    sink = io.BytesIO()
    file.save(file=sink)
    return sink.getvalue()


SCORES = {
    "bach/1.mid": score(60, 64),
    "bach/2.MIDI": score(61),
    "joplin/deep/3.midi": score(62, 63, 64),
}


@pytest.mark.parametrize("top", ["", "scores/"])
def test_scores_come_in_byte_for_byte_with_the_class_of_their_folder(tmp_path, top):
    contents = {top + name: content for name, content in SCORES.items()}
    files, reader = written(tmp_path, {**contents, top + "readme.txt": b"x"}), load_format("midi")()
    columns = reader.columns(files)
    assert columns["notes"].kind == "notes"
    assert columns["label"].names == ("bach", "joplin")
    rows = {row.key: row for row in rows_of(reader, files)}
    assert {key: row.values["notes"] for key, row in rows.items()} == contents
    assert {row.split for row in rows.values()} == {None}
    assert rows[f"{top}joplin/deep/3.midi"].values["label"] == 1
    assert list(Notes.from_bytes(rows[f"{top}bach/1.mid"].values["notes"]).notes) == [
        Note(60, 0.0, 0.5, 70, 5),
        Note(64, 0.5, 0.5, 70, 5),
    ]


def test_folders_above_the_classes_are_splits(tmp_path):
    contents = {f"{split}/{name}": c for split in ("train", "valid") for name, c in SCORES.items()}
    rows = rows_of(load_format("midi")(), written(tmp_path, contents))
    expected = {name: "train" if name.startswith("train") else "validation" for name in contents}
    assert {row.key: row.split for row in rows} == expected


WHOLE = score(60, 62, 64)
SIGNATURE = WHOLE.index(b"\xff\x59\x02") + 3
BAD = {
    "zero.mid": (b"", "the file is empty"),
    "text.mid": (b"no score at all", "not a readable MIDI file"),
    "cut.mid": (WHOLE[:-10], "not a readable MIDI file"),
    "silent.mid": (score(), "the score holds no note"),
    "key.mid": (WHOLE[:SIGNATURE] + b"\x63" + WHOLE[SIGNATURE + 1 :], "not a readable MIDI file"),
    "parallel.mid": (score(60, kind=2), "not a readable MIDI file"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_score_that_cannot_be_read_is_a_bad_row_that_says_why(tmp_path, name):
    content, reason = BAD[name]
    rows = rows_of(load_format("midi")(), written(tmp_path, {name: content, "whole.mid": WHOLE}))
    (bad,) = [row for row in rows if isinstance(row, BadRow)]
    assert (bad.key, bad.content) == (name, content)
    assert bad.reason.startswith(reason)
    assert len(rows) == 2


def test_damage_anywhere_in_a_score_never_stops_the_import(tmp_path):
    rng = np.random.default_rng(0)
    contents = {}
    for number in range(300):
        damaged = bytearray(WHOLE)
        for _ in range(1 + number % 3):
            damaged[rng.integers(0, len(damaged))] = rng.integers(0, 256)
        contents[f"{number}.mid"] = bytes(damaged)
    rows = rows_of(load_format("midi")(), written(tmp_path, contents))
    assert len(rows) == 300
    assert 0 < sum(isinstance(row, BadRow) for row in rows) < 300


def test_a_folder_without_scores_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no MIDI file \(.mid, .midi\) but 1 .kar file"):
        load_format("midi")().columns(written(tmp_path, {"a.kar": b"x"}))
