"""MovieLens in its three layouts, written by the standard library and by pandas."""

import csv
import zipfile
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import files_of, rows_of

from genloom import BadRow, IdColumn, NumberColumn, SourceRow, Unit
from genloom.errors import DataError, RequestError
from genloom_platform.data.formats import lines
from genloom_platform.data.formats.ratings import Ratings

RATINGS = [(1, 31, 2.5, 1260759144), (1, 1029, 3.0, 1260759179), (671, 6565, 5.0, 1074784724)]


def read(path, **options):
    files, reader = files_of(path), Ratings(**options)
    reader.columns(files)
    return rows_of(reader, files)


def write_csv(path):
    frame = pd.DataFrame(RATINGS, columns=["userId", "movieId", "rating", "timestamp"])
    frame.to_csv(path, index=False)


def write_data(path):
    with open(path, "w", newline="") as file:
        rows = [(user, item, int(rating), time) for user, item, rating, time in RATINGS]
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows(rows)


def write_dat(path):
    path.write_text("".join(f"{u}::{i}::{r:g}::{t}\n" for u, i, r, t in RATINGS), newline="\r\n")


@pytest.mark.parametrize(("name", "write", "first"), [
    ("ml-latest-small/ratings.csv", write_csv, 2),
    ("ml-100k/u.data", write_data, 1),
    ("ml-1m/ratings.dat", write_dat, 1),
])  # fmt: skip
def test_each_layout_gives_the_ratings_as_written(tmp_path, name, write, first):
    (tmp_path / name).parent.mkdir()
    write(tmp_path / name)
    (tmp_path / name).with_name("README.txt").write_text("how to cite")
    ratings = [(u, i, int(r) if name.endswith("u.data") else r, t) for u, i, r, t in RATINGS]
    assert read(tmp_path) == [
        SourceRow(f"{name}:{number}", {"user": u, "item": i, "rating": float(r), "time": t})
        for number, (u, i, r, t) in enumerate(ratings, first)
    ]
    assert Ratings().columns(files_of(tmp_path)) == {
        "user": IdColumn(count=0),
        "item": IdColumn(count=0),
        "rating": NumberColumn(minimum=0, maximum=0),
        "time": NumberColumn(minimum=0, maximum=0, integer=True),
    }


def test_a_file_alone_may_have_another_name(tmp_path):
    write_csv(tmp_path / "my-ratings.csv")
    assert [row.values["user"] for row in read(tmp_path / "my-ratings.csv")] == [1, 1, 671]


@pytest.mark.parametrize(("line", "reason"), [
    ("1,2,7,3", "the rating 7 is above 5"),
    ("1,2,0,3", "the rating 0 is below 0.5"),
    ("1,2,3", "the line has 3 fields, not 4"),
    ("1,,3,4", "the item is missing"),
    ("1,2,nan,4", "the rating 'nan' is no number"),
    ("anna,2,3,4", "the user 'anna' is no whole number"),
    ("1,2,3,4.5", "the time '4.5' is no whole number"),
    ("1_0,2,3,4", "the user '1_0' is no whole number"),
])  # fmt: skip
def test_a_bad_line_is_told_with_its_number_and_content(tmp_path, line, reason):
    write_csv(tmp_path / "ratings.csv")
    with open(tmp_path / "ratings.csv", "a") as file:
        file.write(f"{line}\n5,6,1.0,7\n")
    rows = read(tmp_path)
    assert rows[3] == BadRow("ratings.csv:5", reason, line.encode())
    assert rows[4].key == "ratings.csv:6"


def test_the_range_of_ratings_is_an_option(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,2,-9.5,3\n")
    assert read(tmp_path, lowest=-10, highest=10)[0].values["rating"] == -9.5
    with pytest.raises(ValueError, match="lowest = 5 must be below highest = 1"):
        Ratings(lowest=5, highest=1)


def test_a_truncated_last_line_is_bad(tmp_path):
    write_csv(tmp_path / "ratings.csv")
    content = (tmp_path / "ratings.csv").read_bytes()
    (tmp_path / "ratings.csv").write_bytes(content[:-14])
    *rows, last = read(tmp_path)
    assert len(rows) == 2
    assert (last.key, last.reason) == ("ratings.csv:4", "the line has 3 fields, not 4")


@pytest.mark.parametrize(("name", "content", "message"), [
    ("ratings.csv", b"user,item\n1,2\n", "ratings.csv:1 reads 'user,item', where the header 'userId"),
    ("u.data", b"\x89PNG\r\n\x1a\n", "u.data:1 reads .* four fields"),
    ("ratings.dat", b"1,2,3,4\n", "four fields with '::' between"),
    ("ratings.csv", b"", "ratings.csv:1 reads ''"),
])  # fmt: skip
def test_what_is_no_table_of_ratings_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_source_without_ratings_or_with_two_is_refused(tmp_path):
    (tmp_path / "movies.csv").write_text("movieId,title\n")
    (tmp_path / "tags.csv").write_text("movieId,tag\n")
    with pytest.raises(RequestError, match=r"holds none of ratings.csv, ratings.dat, u.data"):
        read(tmp_path)
    write_csv(tmp_path / "ratings.csv")
    write_data(tmp_path / "u.data")
    with pytest.raises(RequestError, match=r"holds ratings.csv and u.data"):
        read(tmp_path)


ENDINGS = st.sampled_from(["\n", "\r\n", "\n\n"])
LINES = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([1, 4.5, 9]), ENDINGS), max_size=30)


@settings(max_examples=60, deadline=None)
@given(table=LINES, places=st.sets(st.integers(0, 600)), block=st.integers(1, 40))
def test_ratings_are_the_same_however_the_file_is_cut_into_ranges(
    tmp_path_factory, table, places, block
):
    path = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    body = "".join(f"{user},2,{rating},3{end}" for user, rating, end in table)
    path.write_bytes(b"userId,movieId,rating,timestamp\n" + body.encode())
    files, size = files_of(path), path.stat().st_size
    edges = sorted({0, size, *(place for place in places if place < size)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        whole = list(Ratings().rows(files, Unit((path.name,))))
        pieces = [Unit((path.name,), start, stop) for start, stop in pairwise(edges)]
        counted = list(lines._counted(files, path.name, pieces))
        for units in (pieces, counted):
            assert [row for unit in units for row in Ratings().rows(files, unit)] == whole
    assert len(whole) == len(table)


def test_a_large_file_is_read_in_ranges(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "UNIT_BYTES", 100)
    monkeypatch.setattr("genloom.formats.ranges.__defaults__", (100,))
    body = "".join(f"{user}\t7\t3\t881250949\n" for user in range(50))
    (tmp_path / "u.data").write_text(body)
    assert len(Ratings().units(files_of(tmp_path))) == -(-len(body) // 100)
    rows = read(tmp_path)
    assert [row.values["user"] for row in rows] == list(range(50))
    assert [row.key for row in rows] == [f"u.data:{number}" for number in range(1, 51)]


def test_ratings_are_read_out_of_a_zip_archive(tmp_path):
    from genloom_platform.data.source import open_files
    from genloom_platform.store import Store

    write_csv(tmp_path / "ratings.csv")
    with zipfile.ZipFile(tmp_path / "ml.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "ratings.csv", "ml-latest-small/ratings.csv")
    files = open_files(str(tmp_path / "ml.zip"), Store((tmp_path / "store").as_uri()), "scratch")
    reader = Ratings()
    rows = [row for unit in reader.units(files) for row in reader.rows(files, unit)]
    assert [row.key for row in rows] == [f"ml-latest-small/ratings.csv:{n}" for n in (2, 3, 4)]
