"""Tables: Parquet, Arrow, JSON Lines, CSV and what `datasets` saves, from files by their usual writers."""

import csv
import gzip
import io
import json
import pickle
import re
import shutil
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pil
from reading import files_of, rows_of

from genloom import (
    Audio,
    AudioColumn,
    BadRow,
    ClassColumn,
    IdColumn,
    ImageColumn,
    NotesColumn,
    NumberColumn,
    SourceRow,
    TensorColumn,
    TextColumn,
    Unit,
)
from genloom.errors import DataError, RequestError, UnknownName
from genloom.samples import Note, Notes
from genloom_platform.data.formats import lines
from genloom_platform.data.formats.arrow import ArrowFiles
from genloom_platform.data.formats.csv import CsvFiles
from genloom_platform.data.formats.huggingface import HuggingFace
from genloom_platform.data.formats.jsonl import JsonLines
from genloom_platform.data.formats.parquet import ParquetFiles


def columns(reader, path):
    return dict(reader.columns(files_of(path)))


def read(reader, path):
    files = files_of(path)
    reader.columns(files)
    return rows_of(reader, files)


def values(rows):
    return [dict(row.values) for row in rows]


def picture(shade=200):
    data = io.BytesIO()
    pil.fromarray(np.full((4, 5, 3), shade, np.uint8)).save(data, "png")
    return data.getvalue()


def tone(seconds=0.01, rate_hz=8000, channels=2):
    data = io.BytesIO()
    wave = np.sin(np.arange(int(seconds * rate_hz)) / 5)[:, None].repeat(channels, 1) / 2
    soundfile.write(data, wave, rate_hz, format="FLAC")
    return data.getvalue(), wave.T


TABLE = pa.table({
    "title": pa.array(["Grüße", "世界", "plain"]),
    "year": pa.array([1994, 2001, 2020], pa.int32()),
    "price": pa.array([1.5, 2.0, -3.25], pa.float32()),
    "good": pa.array([True, False, True]),
    "genre": pa.array(["pop", "folk", "pop"]).dictionary_encode(),
    "cover": pa.array([picture(n) for n in (1, 2, 3)]),
    "point": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2)),
    "grid": pa.array([[[1, 2, 3], [4, 5, 6]]] * 3, pa.list_(pa.list_(pa.int16()))),
})  # fmt: skip
COLUMNS = {
    "title": TextColumn(),
    "year": NumberColumn(minimum=0, maximum=0, integer=True),
    "price": NumberColumn(minimum=0, maximum=0),
    "good": ClassColumn(names=()),
    "genre": ClassColumn(names=()),
    "cover": ImageColumn(),
    "point": TensorColumn(shape=(2,), dtype="float32"),
    "grid": TensorColumn(shape=(2, 3), dtype="int16"),
}


def write_stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def write_file(table, path):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, 2)


WRITERS = [
    (ParquetFiles, "a.parquet", lambda table, path: pq.write_table(table, path, row_group_size=2)),
    (ArrowFiles, "a.arrow", write_file),
    (ArrowFiles, "a.arrows", write_stream),
    (ArrowFiles, "a.feather", lambda table, path: feather.write_feather(table, path)),
]


@pytest.mark.parametrize(("form", "name", "write"), WRITERS)
def test_typed_tables_give_their_values_by_kind(tmp_path, form, name, write):
    write(TABLE, tmp_path / name)
    assert columns(form(), tmp_path) == COLUMNS
    rows = read(form(), tmp_path)
    assert [row.key for row in rows] == [f"{name}:{n}" for n in (1, 2, 3)]
    for row, expected in zip(values(rows), TABLE.to_pylist(), strict=True):
        point, grid = row.pop("point"), row.pop("grid")
        assert (point.dtype, point.tolist()) == (np.float32, expected.pop("point"))
        assert (grid.dtype, grid.tolist()) == (np.int16, expected.pop("grid"))
        assert row == {**expected, "good": "true" if expected["good"] else "false"}


def test_what_pandas_writes_is_read(tmp_path):
    frame = pd.DataFrame({"name": ["a", "b"], "kind": pd.Categorical(["x", "y"]), "n": [1, 2]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert values(read(ParquetFiles(), tmp_path)) == frame.astype({"kind": str}).to_dict("records")


@pytest.mark.parametrize(("form", "name", "write"), WRITERS)
def test_options_name_kinds_and_the_published_split(tmp_path, form, name, write):
    table = pa.table({"user": [7, 9], "stars": [4, 5], "note": ["x", "y"], "split": ["train", "test"]})
    write(table, tmp_path / name)
    reader = form(
        columns={"user": "id", "stars": "class", "note": "skip"},
        split_column="split",
    )
    assert columns(reader, tmp_path) == {"user": IdColumn(count=0), "stars": ClassColumn(names=())}
    assert read(reader, tmp_path) == [
        SourceRow(f"{name}:1", {"user": 7, "stars": "4"}, "train"),
        SourceRow(f"{name}:2", {"user": 9, "stars": "5"}, "test"),
    ]


@pytest.mark.parametrize(("form", "name", "write"), WRITERS)
def test_nulls_and_values_that_do_not_fit_are_bad_rows(tmp_path, form, name, write):
    nan = float("nan")
    table = pa.table({
        "text": ["a", None, "c", "d"],
        "number": [1.0, 2.0, nan, 4.0],
        "tensor": [[1, 2], [1, 2], [1, 2], [1, 2, 3]],
    })  # fmt: skip
    write(table, tmp_path / name)
    good, null, infinite, ragged = read(form(), tmp_path)
    assert good.values["text"] == "a"
    assert (null.key, null.reason) == (f"{name}:2", "'text' is null")
    assert json.loads(null.content) == {"text": None, "number": 2.0, "tensor": [1, 2]}
    assert infinite.reason == "'number': the number nan is not finite"
    assert ragged.reason == "'tensor': its shape is [3], not [2]"


@pytest.mark.parametrize(("form", "name", "write"), WRITERS)
def test_text_that_is_no_utf8_costs_its_row_alone(tmp_path, form, name, write):
    bad = pa.array([b"good", b"\xff\xfe", b"fine"]).view(pa.string())
    write(pa.table({"text": bad}), tmp_path / name)
    first, second, third = read(form(), tmp_path)
    assert (first.values["text"], third.values["text"]) == ("good", "fine")
    assert second.reason == "'text': the text is not UTF-8 at character 0"


def test_sounds_and_scores_in_a_table_are_known_by_their_content(tmp_path):
    data, wave = tone()
    score = Notes([Note(60, 0.0, 0.5)]).to_bytes()
    table = pa.table({"sound": [data, data], "score": [score, score]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert columns(ParquetFiles(), tmp_path) == {
        "sound": AudioColumn(rate_hz=8000, channels=2),
        "score": NotesColumn(),
    }
    first, _ = values(read(ParquetFiles(), tmp_path))
    assert isinstance(first["sound"], Audio)
    np.testing.assert_allclose(first["sound"].waveform, wave, atol=1e-4)
    assert first["score"] == score


def test_media_may_lie_beside_the_table_that_names_them(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.png").write_bytes(picture())
    (tmp_path / "data" / "1.flac").write_bytes(tone()[0])
    (tmp_path / "secret.png").write_bytes(picture())
    rows = [
        {"file": "1.png", "sound": "1.flac"},
        {"file": "../secret.png", "sound": "1.flac"},
        {"file": "2.png", "sound": "1.flac"},
    ]
    (tmp_path / "data" / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.jsonl").write_text(json.dumps({"file": "3.png", "sound": "data/1.flac"}))
    (tmp_path / "more" / "3.png").write_bytes(picture(3))
    reader = JsonLines(columns={"file": "image", "sound": "audio"})
    assert columns(reader, tmp_path)["sound"] == AudioColumn(rate_hz=8000, channels=2)
    first, outside, missing, other = read(reader, tmp_path)
    assert first.values["file"] == picture()
    assert other.values["file"] == picture(3)
    assert outside.reason == "'file': the source holds no file '../secret.png'"
    assert missing.reason == "'file': the source holds no file '2.png'"


def test_row_groups_are_units_and_their_rows_keep_their_numbers(tmp_path, monkeypatch):
    pq.write_table(pa.table({"n": range(10)}), tmp_path / "a.parquet", row_group_size=3)
    files, reader = files_of(tmp_path), ParquetFiles()
    assert [(unit.start, unit.stop) for unit in reader.units(files)] == [(0, 4)]
    monkeypatch.setattr("genloom_platform.data.formats.parquet.UNIT_BYTES", 1)
    units = reader.units(files)
    assert [(unit.start, unit.stop) for unit in units] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    rows = [row for unit in reversed(units) for row in reader.rows(files, unit)]
    assert {row.key: row.values["n"] for row in rows} == {f"a.parquet:{n + 1}": n for n in range(10)}


@pytest.mark.parametrize(("form", "name", "write"), WRITERS)
def test_mixed_schemas_are_one_error_with_all_differences(tmp_path, form, name, write):
    write(pa.table({"a": [1], "b": ["x"], "c": [1.5], "d": [1.5]}), tmp_path / f"1{name}")
    write(pa.table({"a": ["1"], "c": [2], "d": [1.5], "e": [0]}), tmp_path / f"2{name}")
    with pytest.raises(DataError) as caught:
        columns(form(), tmp_path)
    message = str(caught.value)
    assert f"1{name} and other files differ in their columns" in message
    for difference in ("has text in 'a', not whole numbers", "lacks 'b'", "adds 'e'"):
        assert f"2{name} {difference}" in message
    assert "'c'" not in message
    skipped = form(columns={"a": "skip", "b": "skip", "e": "skip"})
    assert values(read(skipped, tmp_path)) == [{"c": 1.5, "d": 1.5}, {"c": 2.0, "d": 1.5}]


@pytest.mark.parametrize(("form", "name", "write"), WRITERS)
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) * 2 // 3], lambda data: b"not one\n" * 9]
)
def test_a_file_that_is_cut_short_or_something_else_is_told(tmp_path, form, name, write, damage):
    write(pa.table({"n": np.random.default_rng(0).integers(0, 9, 4000)}), tmp_path / name)
    (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))
    with pytest.raises(DataError, match=rf"{name} is no whole (Parquet|Arrow) file.*download it again"):
        read(form(), tmp_path)


def test_a_stream_cut_between_two_batches_is_cut_short(tmp_path):
    sink, ends = io.BytesIO(), []
    with pa.ipc.new_stream(sink, pa.schema([("n", pa.int64())])) as writer:
        for number in range(3):
            writer.write_batch(pa.record_batch({"n": [number]}))
            ends.append(sink.tell())
    (tmp_path / "a.arrows").write_bytes(sink.getvalue()[: ends[1]])
    with pytest.raises(DataError, match="does not end as a stream does"):
        read(ArrowFiles(), tmp_path)


def test_offsets_that_lead_out_of_an_arrow_file_are_refused(tmp_path):
    write_file(pa.table({"text": ["one", "two", "six"]}), tmp_path / "a.arrow")
    content = (tmp_path / "a.arrow").read_bytes()
    offsets = np.array([0, 3, 6], "<i4").tobytes()
    assert content.count(offsets) == 1
    wild = np.array([0, 1 << 30, 6], "<i4").tobytes()
    (tmp_path / "a.arrow").write_bytes(content.replace(offsets, wild))
    with pytest.raises(DataError, match="is no whole Arrow file"):
        read(ArrowFiles(), tmp_path)


def test_feather_version_1_is_told(tmp_path):
    (tmp_path / "a.feather").write_bytes(b"FEA1" + bytes(40) + b"FEA1")
    with pytest.raises(DataError, match="Feather version 1"):
        read(ArrowFiles(), tmp_path)


class Payload:
    """What leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def pickled(mark, nested=False):
    data = pa.array([pickle.dumps(Payload(mark))], pa.large_binary())
    metadata = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    field = pa.field("thing", data.type, metadata=metadata)
    if nested:
        data, field = pa.StructArray.from_arrays([data], fields=[field]), None
        field = pa.field("outer", data.type)
    return pa.table([data, pa.array(["x"])], pa.schema([field, pa.field("text", pa.string())]))


@pytest.mark.parametrize(("form", "name", "write"), WRITERS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_pickled_column_is_refused_from_the_schema(tmp_path, form, name, write, nested):
    # Written before the import, as by another machine: then pyarrow would unpickle such a column.
    sink = tmp_path / "file" / name
    sink.parent.mkdir()
    write(pickled(tmp_path / "mark", nested), sink)
    import ray.data  # noqa: F401

    outer = "outer" if nested else "thing"
    for options in ({}, {outer: "skip"}, {outer: "image"}):
        with pytest.raises(DataError, match="holds pickled objects"):
            read(form(columns=options), sink.parent)
    assert not (tmp_path / "mark").exists()


def test_an_unknown_extension_type_is_refused(tmp_path):
    metadata = {"ARROW:extension:name": "acme.secret", "ARROW:extension:metadata": ""}
    schema = pa.schema([pa.field("x", pa.binary(), metadata=metadata)])
    pq.write_table(pa.table([pa.array([b"1"])], schema), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"'x' is of the extension type 'acme\.secret'"):
        columns(ParquetFiles(), tmp_path)


def test_fixed_shape_tensors_are_tensors(tmp_path):
    array = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(12, dtype=np.int32).reshape(2, 2, 3))
    pq.write_table(pa.table({"x": array}), tmp_path / "a.parquet")
    assert columns(ParquetFiles(), tmp_path) == {"x": TensorColumn(shape=(2, 3), dtype="int32")}
    first, second = values(read(ParquetFiles(), tmp_path))
    assert first["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second["x"].tolist() == [[6, 7, 8], [9, 10, 11]]


def test_columns_of_no_kind_are_named_at_once_with_the_remedy(tmp_path):
    table = pa.table({
        "when": pa.array([0], pa.timestamp("s")),
        "parts": [{"a": 1}],
        "blob": [b"neither"],
        "none": pa.nulls(1),
        "text": ["x"],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(RequestError) as caught:
        columns(ParquetFiles(), tmp_path)
    message = str(caught.value)
    assert all(f"'{name}'" in message for name in ("when", "parts", "blob", "none"))
    assert "'text'" not in message
    assert "or skip, in the option columns" in message
    skipped = dict.fromkeys(("when", "parts", "blob", "none"), "skip")
    assert values(read(ParquetFiles(columns=skipped), tmp_path)) == [{"text": "x"}]
    with pytest.raises(
        RequestError, match="'text' is of the type string, which cannot be read as tensor"
    ):
        columns(ParquetFiles(columns={**skipped, "text": "tensor"}), tmp_path)
    with pytest.raises(UnknownName, match="no column 'txt'; did you mean 'text'"):
        columns(ParquetFiles(columns={"txt": "skip"}), tmp_path)


RECORDS = [
    {"text": "Grüße\n世界", "n": 3, "x": 1, "ok": True, "v": [1, 2.5]},
    {"text": "b", "n": 4, "x": 2.5, "ok": False, "v": [0, 0]},
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_json_lines_give_their_values_by_kind(tmp_path, name):
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in RECORDS).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert columns(JsonLines(), tmp_path) == {
        "text": TextColumn(),
        "n": NumberColumn(minimum=0, maximum=0, integer=True),
        "x": NumberColumn(minimum=0, maximum=0),
        "ok": ClassColumn(names=()),
        "v": TensorColumn(shape=(2,), dtype="float64"),
    }
    first, second = read(JsonLines(), tmp_path)
    assert first.values["v"].tolist() == [1, 2.5]
    assert {**first.values, "v": 0} == {**RECORDS[0], "v": 0, "ok": "true"}
    assert {**second.values, "v": 0} == {**RECORDS[1], "v": 0, "ok": "false"}
    assert [first.key, second.key] == [f"{name}:1", f"{name}:2"]


@pytest.mark.parametrize(("line", "reason"), [
    (b'{"text": "a", "n": ', "the line is no JSON object"),
    (b"[1, 2]", r"the line is no JSON object \(it is of the type list\)"),
    (b'{"text": "\xff", "n": 1}', "the line is no JSON object .*utf-8"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"text": "\\ud800", "n": 1}', "'text': the text is not UTF-8"),
    (b'{"text": 5, "n": 1}', "'text': 5 is no text"),
    (b'{"text": "a", "n": 2.5}', "'n': 2.5 is no whole number"),
    (b'{"text": "a", "n": 9223372036854775808}', "'n': 9223372036854775808 does not fit 64 bits"),
    (b'{"text": "a", "n": NaN}', "'n': nan is no whole number"),
    (b'{"text": "a"}', "'n' is null"),
])  # fmt: skip
def test_a_bad_json_line_is_told_with_its_number(tmp_path, line, reason, monkeypatch):
    monkeypatch.setattr("genloom_platform.data.formats.jsonl.LOOKED_AT_ROWS", 2)
    good = b'{"text": "a", "n": 1}\n'
    (tmp_path / "a.jsonl").write_bytes(good * 2 + b"\n" + line + b"\n" + good)
    *_, bad, last = read(JsonLines(), tmp_path)
    assert isinstance(bad, BadRow)
    assert bad.key == "a.jsonl:4"
    assert re.search(reason, bad.reason)
    assert last.key == "a.jsonl:5"


def test_a_number_that_is_named_may_have_a_fraction_after_all(tmp_path, monkeypatch):
    monkeypatch.setattr("genloom_platform.data.formats.jsonl.LOOKED_AT_ROWS", 1)
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n{"n": 2.5}\n')
    assert isinstance(read(JsonLines(), tmp_path)[1], BadRow)
    assert values(read(JsonLines(columns={"n": "number"}), tmp_path)) == [{"n": 1.0}, {"n": 2.5}]


def test_what_is_no_json_lines_file_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(picture())
    with pytest.raises(DataError, match=r"a.jsonl: none of the first lines is a JSON object"):
        columns(JsonLines(), tmp_path)
    (tmp_path / "a.jsonl").unlink()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n' * 999)[:-20])
    with pytest.raises(DataError, match=r"a.jsonl.gz is cut short at byte \d+; download it again"):
        columns(JsonLines(), tmp_path)


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(max_size=12), min_size=1, max_size=20),
    places=st.sets(st.integers(0, 500)),
    block=st.integers(1, 40),
)
def test_json_lines_are_the_same_however_they_are_cut_into_ranges(
    tmp_path_factory, texts, places, block
):
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))
    files, size, reader = files_of(path), path.stat().st_size, JsonLines()
    edges = sorted({0, size, *(place for place in places if place < size)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        whole = list(reader.rows(files, Unit((path.name,))))
        units = [Unit((path.name,), start, stop) for start, stop in pairwise(edges)]
        assert [row for unit in units for row in reader.rows(files, unit)] == whole
    assert [row.values["text"] for row in whole] == texts


def write_rows(path, rows, **options):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, **options).writerows(rows)


def test_csv_reads_quotes_and_line_breaks_within_them(tmp_path):
    rows = [["text", "n", "x", "ok"], ['say "hi",\nGrüße', 3, 1.5, "True"], ["", -4, 2, "False"]]
    write_rows(tmp_path / "a.csv", rows)
    assert columns(CsvFiles(), tmp_path) == {
        "text": TextColumn(),
        "n": NumberColumn(minimum=0, maximum=0, integer=True),
        "x": NumberColumn(minimum=0, maximum=0),
        "ok": ClassColumn(names=()),
    }
    assert read(CsvFiles(), tmp_path) == [
        SourceRow("a.csv:2", {"text": 'say "hi",\nGrüße', "n": 3, "x": 1.5, "ok": "True"}),
        SourceRow("a.csv:4", {"text": "", "n": -4, "x": 2.0, "ok": "False"}),
    ]


@pytest.mark.parametrize(("name", "separator", "option"), [
    ("a.csv", ";", ";"), ("a.csv", "\t", "\\t"), ("a.tsv", "\t", None),
])  # fmt: skip
def test_the_separator_of_a_csv_is_an_option(tmp_path, name, separator, option):
    write_rows(tmp_path / name, [["a", "b"], ["1,5", "x"]], delimiter=separator)
    assert values(read(CsvFiles(separator=option), tmp_path)) == [{"a": "1,5", "b": "x"}]


def test_what_excel_and_pandas_write_is_read(tmp_path):
    frame = pd.DataFrame({"zip": ["01234", "99999"], "ü": ["a", "b"]})
    frame.to_csv(tmp_path / "a.csv", index=False, encoding="utf-8-sig", lineterminator="\r\n")
    assert values(read(CsvFiles(), tmp_path)) == [{"zip": 1234, "ü": "a"}, {"zip": 99999, "ü": "b"}]
    as_text = CsvFiles(columns={"zip": "text"})
    assert values(read(as_text, tmp_path)) == frame.to_dict("records")
    assert values(read(CsvFiles(columns={"zip": "id", "ü": "class"}), tmp_path)) == [
        {"zip": 1234, "ü": "a"},
        {"zip": 99999, "ü": "b"},
    ]


@pytest.mark.parametrize(("line", "reason"), [
    (b"a", "the row has 1 fields, where the header has 2"),
    (b"\xff,1", "'text': the text is not UTF-8 at character 0"),
    (b'"a"b,1', "it is no CSV"),
    (b"a,", "'n': '' is no whole number"),
    (b"a,1_0", "'n': '1_0' is no whole number"),
])  # fmt: skip
def test_a_bad_csv_row_is_told_with_its_line(tmp_path, line, reason, monkeypatch):
    monkeypatch.setattr("genloom_platform.data.formats.csv.LOOKED_AT_ROWS", 2)
    (tmp_path / "a.csv").write_bytes(b"text,n\na,1\nb,2\n" + line + b"\nc,3\n")
    *_, bad, last = read(CsvFiles(), tmp_path)
    assert isinstance(bad, BadRow)
    assert bad.key == "a.csv:4"
    assert reason in bad.reason
    assert last.values == {"text": "c", "n": 3}


def test_a_quote_that_is_never_closed_is_an_error_with_its_line(tmp_path):
    (tmp_path / "a.csv").write_text('text,n\na,1\n"b,2\nc,3\n')
    with pytest.raises(DataError, match=r"a.csv: the quote that opens in line 3 is never closed"):
        read(CsvFiles(), tmp_path)


@pytest.mark.parametrize("content", [b"a,a\n1,2\n", b"a,,c\n", b"\x89PNG\r\n\x1a\n,\xff\n"])
def test_a_csv_without_a_header_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"a.csv:1 is no header"):
        columns(CsvFiles(), tmp_path)


def test_csv_files_with_other_columns_are_one_error(tmp_path):
    write_rows(tmp_path / "a.csv", [["a", "b"], [1, 2]])
    write_rows(tmp_path / "b.csv", [["a", "c"], ["x", 2]])
    with pytest.raises(DataError) as caught:
        columns(CsvFiles(), tmp_path)
    for difference in ("has text in 'a', not whole numbers", "lacks 'b'", "adds 'c'"):
        assert f"b.csv {difference}" in str(caught.value)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What `datasets` itself saves: a Dataset, and a DatasetDict."""
    import datasets

    features = datasets.Features({
        "label": datasets.ClassLabel(names=["cat", "dog"]),
        "text": datasets.Value("string"),
        "n": datasets.Value("int32"),
        "x": datasets.Value("float32"),
        "ok": datasets.Value("bool"),
        "v": datasets.Sequence(datasets.Value("int8"), length=2),
        "m": datasets.Array2D((2, 3), "float32"),
        "image": datasets.Image(),
    })  # fmt: skip

    def make(labels):
        count = len(labels)
        return datasets.Dataset.from_dict({
            "label": labels,
            "text": [f"Grüße {n}" for n in range(count)],
            "n": list(range(count)),
            "x": [n / 2 for n in range(count)],
            "ok": [True] * count,
            "v": [[n, 1] for n in range(count)],
            "m": [np.full((2, 3), n, np.float32) for n in range(count)],
            "image": [{"bytes": picture(n), "path": None} for n in range(count)],
        }, features)  # fmt: skip

    folder = tmp_path_factory.mktemp("saved")
    make([0, 1]).save_to_disk(folder / "one")
    both = {"train": make([0, 1, 1, 0, 1]), "test": make([1, -1])}
    datasets.DatasetDict(both).save_to_disk(folder / "both", num_shards={"train": 2, "test": 1})
    return folder


SAVED_COLUMNS = {
    "label": ClassColumn(names=("cat", "dog")),
    "text": TextColumn(),
    "n": NumberColumn(minimum=0, maximum=0, integer=True),
    "x": NumberColumn(minimum=0, maximum=0),
    "ok": ClassColumn(names=()),
    "v": TensorColumn(shape=(2,), dtype="int8"),
    "m": TensorColumn(shape=(2, 3), dtype="float32"),
    "image": ImageColumn(),
}


def test_a_saved_dataset_comes_in_with_its_features(saved):
    assert columns(HuggingFace(), saved / "one") == SAVED_COLUMNS
    first, second = read(HuggingFace(), saved / "one")
    assert first.split is None
    assert second.key == "data-00000-of-00001.arrow:2"
    row = dict(second.values)
    assert row.pop("v").tolist() == [1, 1]
    assert row.pop("m").tolist() == [[1.0] * 3] * 2
    expected = {"label": 1, "text": "Grüße 1", "n": 1, "x": 0.5, "ok": "true", "image": picture(1)}
    assert row == expected


def test_a_saved_dict_comes_in_with_its_splits(saved):
    assert columns(HuggingFace(), saved / "both") == SAVED_COLUMNS
    rows = read(HuggingFace(), saved / "both")
    train = [row for row in rows if isinstance(row, SourceRow) and row.split == "train"]
    assert [row.values["label"] for row in train] == [0, 1, 1, 0, 1]
    assert [row.values["n"] for row in train] == [0, 1, 2, 3, 4]
    assert train[3].key == "train/data-00001-of-00002.arrow:1"
    test, unlabelled = rows[5:]
    assert (test.split, test.values["label"]) == ("test", 1)
    assert unlabelled.reason == "'label': -1 is none of the classes 0 to 1"
    skipping = read(HuggingFace(columns={"v": "skip", "m": "skip"}), saved / "both")
    assert skipping[0].values.keys() == SAVED_COLUMNS.keys() - {"v", "m"}


def test_a_saved_dataset_below_one_folder_is_found(saved, tmp_path):
    shutil.copytree(saved / "one", tmp_path / "pets")
    rows = read(HuggingFace(), tmp_path)
    assert [row.key for row in rows] == [f"pets/data-00000-of-00001.arrow:{n}" for n in (1, 2)]


def test_a_saved_dataset_that_lacks_a_file_is_told(saved, tmp_path):
    for missing in ("train/data-00001-of-00002.arrow", "test/state.json"):
        copy = tmp_path / missing.replace("/", "-")
        shutil.copytree(saved / "both", copy)
        (copy / missing).unlink()
        with pytest.raises(DataError, match=rf"lacks {missing}.*copy the whole folder"):
            columns(HuggingFace(), copy)
    with pytest.raises(RequestError, match=r"neither dataset_dict\.json nor state\.json"):
        columns(HuggingFace(), saved / "both" / "train" / "dataset_info.json")


def test_a_parquet_file_of_the_hub_keeps_its_class_names(saved, tmp_path):
    import datasets

    datasets.load_from_disk(str(saved / "one")).to_parquet(tmp_path / "train.parquet")
    assert columns(ParquetFiles(), tmp_path) == SAVED_COLUMNS
    assert [row.values["label"] for row in read(ParquetFiles(), tmp_path)] == [0, 1]
