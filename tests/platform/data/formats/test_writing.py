"""Text, text8 and Wikipedia, from files as they are published, made here."""

import bz2
import gzip
import re
from itertools import pairwise
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import files_of, rows_of

from genloom import BadRow, TextColumn, Unit
from genloom.errors import DataError, RequestError
from genloom_platform.data.formats import text, wikipedia
from genloom_platform.data.formats.text import Text8, TextFiles
from genloom_platform.data.formats.wikipedia import Wikipedia


def read(reader, path):
    files = files_of(path)
    reader.columns(files)
    return rows_of(reader, files)


def cut(size, places):
    return [Unit((), start, stop) for start, stop in pairwise(sorted({0, size, *places}))]


def joined(rows, split):
    return "".join(row.values["text"] for row in rows if row.split == split)


WORDS = "Grüße, 世界! 🦊 The quick brown fox.\n"


def test_text_keeps_every_character_in_order(tmp_path):
    content = WORDS * 40
    (tmp_path / "a.txt").write_text(content)
    rows = read(TextFiles(passage=100, test=0.1), tmp_path / "a.txt")
    assert joined(rows, "train") + joined(rows, "test") == content
    assert len(joined(rows, "test").encode()) == pytest.approx(len(content.encode()) / 10, abs=4)
    assert {len(row.values["text"]) for row in rows[:10]} == {100}
    assert rows[0].key == "a.txt:0000000000"
    assert rows[1].key == f"a.txt:{len(content[:100].encode()):010}"
    assert TextFiles().columns(files_of(tmp_path)) == {"text": TextColumn()}


def test_a_folder_of_texts_is_one_text_whose_end_is_held_out(tmp_path):
    for name, letter in (("b.txt", "2"), ("a.txt", "1"), ("notes.md", "3")):
        (tmp_path / name).write_text(letter * 50)
    rows = read(TextFiles(test=0.25), tmp_path)
    assert [(row.key, row.values["text"], row.split) for row in rows] == [
        ("a.txt:0000000000", "1" * 50, "train"),
        ("b.txt:0000000000", "2" * 25, "train"),
        ("b.txt:0000000025", "2" * 25, "test"),
    ]


def test_sorted_keys_give_the_order_of_the_text(tmp_path):
    for name in ("a.txt", "a.txt.txt", "a-b.txt", "deep/a.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name * 30)
    keys = [row.key for row in read(TextFiles(passage=7), tmp_path)]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_a_single_file_of_any_suffix_is_text(tmp_path):
    (tmp_path / "book.md").write_text("abc")
    assert joined(read(TextFiles(test=0), tmp_path / "book.md"), "train") == "abc"


@settings(max_examples=25, deadline=None)
@given(
    content=st.text(max_size=300),
    block=st.integers(4, 50),
    places=st.sets(st.integers(0, 400)),
    share=st.sampled_from([0, 0.1, 0.5]),
)
def test_text_is_the_same_however_it_is_cut_into_ranges(
    tmp_path_factory, content, block, places, share
):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(content.encode() or b".")
    files, reader = files_of(path), TextFiles(passage=5, test=share)
    size = path.stat().st_size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", block)
        whole = list(reader.rows(files, Unit(("a.txt",))))
        pieces = cut(size, {place for place in places if place < size})
        units = [Unit(("a.txt",), piece.start, piece.stop) for piece in pieces]
        assert [row for unit in units for row in reader.rows(files, unit)] == whole
    assert "".join(row.values["text"] for row in whole).encode() == path.read_bytes()


def test_a_large_text_is_read_in_ranges_of_whole_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("genloom.formats.ranges.__defaults__", (2 << 20,))
    monkeypatch.setattr(text, "UNIT_BYTES", 2 << 20)
    content = WORDS * (5_000_000 // len(WORDS.encode()))
    (tmp_path / "a.txt").write_text(content)
    (tmp_path / "b.txt").write_text("end")
    units = TextFiles().units(files_of(tmp_path))
    assert [(unit.files[0], unit.start) for unit in units] == [
        ("b.txt", 0), ("a.txt", 0), ("a.txt", 2 << 20), ("a.txt", 4 << 20),
    ]  # fmt: skip
    rows = sorted(read(TextFiles(), tmp_path), key=lambda row: row.key)
    assert joined(rows, "train") + joined(rows, "test") == content + "end"
    assert max(len(row.values["text"]) for row in rows) == 1024


@pytest.mark.parametrize(("content", "message"), [
    (b"abc\xff\xfe", r"a.txt is not UTF-8 text: byte 0xff at offset 3; .*iconv"),
    (b"\x80abc", "byte 0x80 at offset 0"),
    ("abä".encode()[:-1], "byte 0xc3 at offset 2"),
])  # fmt: skip
def test_what_is_no_text_is_a_bad_row_with_its_place(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    (row,) = read(TextFiles(), tmp_path / "a.txt")
    assert isinstance(row, BadRow)
    assert row.content == content
    assert re.search(message, row.reason)


def test_a_byte_that_is_no_text_costs_its_passage_alone(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abcd" * 256 + b"ab\xff" + b"efgh" * 600)
    good, bad, *rest = read(TextFiles(), tmp_path / "a.txt")
    assert good.values["text"] == "abcd" * 256
    assert isinstance(bad, BadRow)
    assert "offset 1,026" in bad.reason
    kept = bad.content.decode(errors="ignore") + "".join(row.values["text"] for row in rest)
    assert kept == "ab" + "efgh" * 600


def test_an_empty_text_is_an_error(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        read(TextFiles(), tmp_path / "a.txt")


def test_a_folder_without_texts_is_refused(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(RequestError, match=r"holds no \.txt file"):
        read(TextFiles(), tmp_path)


def test_text8_is_split_ninety_five_five(tmp_path):
    content = "the quick brown fox jumps over the lazy dog again " * 40
    (tmp_path / "text8").write_text(content)
    rows = read(Text8(passage=100), tmp_path / "text8")
    assert joined(rows, "train") == content[:1800]
    assert joined(rows, "validation") == content[1800:1900]
    assert joined(rows, "test") == content[1900:]


def test_a_byte_that_text8_does_not_have_is_told_with_its_offset(tmp_path):
    (tmp_path / "text8").write_text("a" * 70 + "B" + "c" * 29)
    with pytest.raises(DataError, match=r"byte 0x42 at offset 70.*alphabet=false"):
        read(Text8(), tmp_path / "text8")


def test_enwik8_is_read_without_the_check_of_the_alphabet(tmp_path):
    content = "<mediawiki>Grüße &amp; 世界\n" * 20
    (tmp_path / "enwik8").write_text(content)
    rows = read(Text8(alphabet=False), tmp_path)
    assert "".join(row.values["text"] for row in rows) == content
    (tmp_path / "more").write_text("a")
    with pytest.raises(RequestError, match="holds 2 files; give the text8 file"):
        read(Text8(alphabet=False), tmp_path)


HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""
ARTICLE = """{{Infobox|name=x}}'''Anarchism''' is a [[political philosophy|philosophy]] &amp; a
movement.<ref>A note</ref>
{| class="wikitable"
! head
|-
| cell
|}
[[Datei:Flag.svg|thumb|A [[flag]]]]
== History ==
It began <!-- when? -->early.

__NOTOC__
[[Category:Politics]] [[Kategorie:Politik]]"""
PLAIN = "Anarchism is a philosophy & a\nmovement.\n\nHistory\nIt began early."


def page(number, title, content, namespace=0, redirect=""):
    pointer = f'    <redirect title="{redirect}" />\n' if redirect else ""
    return (
        f"  <page>\n    <title>{escape(title)}</title>\n    <ns>{namespace}</ns>\n    <id>{number}</id>\n"
        f"{pointer}    <revision>\n      <id>9{number}</id>\n      <model>wikitext</model>\n"
        f'      <text bytes="1" xml:space="preserve">{escape(content)}</text>\n    </revision>\n  </page>\n'
    )


PAGES = [
    page(
        10, "AccessibleComputing", "#REDIRECT [[Computer accessibility]]", 0, "Computer accessibility"
    ),
    page(12, "Anarchism", ARTICLE),
    page(13, "Talk:Anarchism", "Nice article.", 1),
    *(page(number, f"Zahl {number} & Co", f"Die ''Zahl'' {number}.") for number in range(20, 32)),
]
DUMP = HEAD + "".join(PAGES) + "</mediawiki>\n"
EXPECTED = [
    ("12", "Anarchism", PLAIN),
    *((str(number), f"Zahl {number} & Co", f"Die Zahl {number}.") for number in range(20, 32)),
]


def multistream():
    """As Wikimedia makes it: the head, some pages a stream, the closing tag."""
    groups = ["".join(PAGES[start : start + 3]) for start in range(0, len(PAGES), 3)]
    return b"".join(bz2.compress(each.encode()) for each in [HEAD, *groups, "</mediawiki>"])


def articles(rows):
    return [(row.key.rpartition(":")[2], row.values["title"], row.values["text"]) for row in rows]


@pytest.mark.parametrize(("name", "content"), [
    ("dewiki-20260101-pages-articles.xml", DUMP.encode()),
    ("dewiki-20260101-pages-articles.xml.gz", gzip.compress(DUMP.encode())),
    ("dewiki-20260101-pages-articles.xml.bz2", bz2.compress(DUMP.encode())),
    ("dewiki-20260101-pages-articles-multistream.xml.bz2", multistream()),
    ("dewiki-20260101-pages-articles1.xml-p1p31.bz2", bz2.compress(DUMP.encode())),
])  # fmt: skip
def test_the_articles_of_a_dump_come_in_as_plain_text(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    (tmp_path / "dewiki-20260101-pages-articles-multistream-index.txt.bz2").write_bytes(b"")
    rows = read(Wikipedia(), tmp_path)
    assert articles(rows) == EXPECTED
    assert rows[0].key == f"{name}:12"
    assert set(Wikipedia().columns(files_of(tmp_path))) == {"title", "text"}


def test_short_articles_are_left_out(tmp_path):
    (tmp_path / "a.xml").write_text(DUMP)
    assert articles(read(Wikipedia(min_chars=20), tmp_path)) == EXPECTED[:1]


@settings(max_examples=40, deadline=None)
@given(places=st.sets(st.integers(1, len(multistream()) - 1), max_size=8))
def test_a_multistream_dump_is_the_same_however_it_is_cut_into_ranges(tmp_path_factory, places):
    path = tmp_path_factory.mktemp("wiki") / "dump.xml.bz2"
    path.write_bytes(multistream())
    units = [Unit((path.name,), unit.start, unit.stop) for unit in cut(len(multistream()), places)]
    rows = [row for unit in units for row in Wikipedia().rows(files_of(path), unit)]
    assert articles(rows) == EXPECTED


def test_a_multistream_dump_is_read_in_ranges_and_a_single_stream_whole(tmp_path):
    (tmp_path / "many.xml.bz2").write_bytes(multistream())
    (tmp_path / "one.xml.bz2").write_bytes(bz2.compress(DUMP.encode()))
    pieces = [DUMP.encode()[start : start + 700] for start in range(0, len(DUMP.encode()), 700)]
    (tmp_path / "torn.xml.bz2").write_bytes(b"".join(map(bz2.compress, pieces)))  # as pbzip2 does
    units = {unit.files[0]: unit.stop for unit in Wikipedia().units(files_of(tmp_path))}
    assert units == {"many.xml.bz2": len(multistream()), "one.xml.bz2": None, "torn.xml.bz2": None}
    assert articles(read(Wikipedia(), tmp_path / "torn.xml.bz2")) == EXPECTED


@pytest.mark.parametrize("name", ["dump.xml", "dump.xml.gz", "dump.xml.bz2", "multi.xml.bz2"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_dump_is_told_with_file_and_place(tmp_path, name, share):
    content = {
        "dump.xml": DUMP.encode(),
        "dump.xml.gz": gzip.compress(DUMP.encode()),
        "dump.xml.bz2": bz2.compress(DUMP.encode()),
        "multi.xml.bz2": multistream(),
    }[name]
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=rf"{name} is cut short (at|after|before) .*download it again"):
        read(Wikipedia(), tmp_path / name)


def test_a_multistream_dump_that_lacks_its_last_streams_is_cut_short(tmp_path):
    end = len(bz2.compress(b"</mediawiki>"))
    (tmp_path / "dump.xml.bz2").write_bytes(multistream()[:-end])
    with pytest.raises(DataError, match="is cut short after the page 'Zahl 31 & Co'"):
        read(Wikipedia(), tmp_path / "dump.xml.bz2")


def test_a_damaged_stream_is_told_with_its_place(tmp_path):
    content = bytearray(multistream())
    content[len(content) // 2] ^= 255
    (tmp_path / "dump.xml.bz2").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"dump.xml.bz2 is (damaged near|cut short at) byte"):
        read(Wikipedia(), tmp_path / "dump.xml.bz2")


@pytest.mark.parametrize(("content", "message"), [
    (b"<html><page></page></html>", "outermost element is <html>"),
    (b"no markup at all", "is damaged .*before the first page"),
    (DUMP.encode().replace(b"Zahl 25", b"Zahl \xff"), "is damaged .*after the page 'Zahl 24 & Co'"),
    (b"", "is empty"),
])  # fmt: skip
def test_what_is_no_dump_is_told(tmp_path, content, message):
    (tmp_path / "dump.xml").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(Wikipedia(), tmp_path / "dump.xml")


def test_a_dump_that_declares_entities_is_refused_before_they_expand(tmp_path):
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE mediawiki [<!ENTITY l0 "ha">{laughs}]>' + DUMP.replace("Anarchism", "&l11;")
    (tmp_path / "dump.xml").write_text(bomb)
    with pytest.raises(DataError, match="declares a document type"):
        read(Wikipedia(), tmp_path / "dump.xml")


def test_a_page_that_cannot_be_parsed_is_bad_and_the_others_are_read(tmp_path, monkeypatch):
    real = wikipedia.mwparserfromhell.parse

    def parse(markup):
        if "Anarchism" in markup:
            raise wikipedia.ParserError("no such token")
        return real(markup)

    monkeypatch.setattr(wikipedia.mwparserfromhell, "parse", parse)
    (tmp_path / "dump.xml").write_text(DUMP)
    bad, *rows = read(Wikipedia(), tmp_path / "dump.xml")
    assert isinstance(bad, BadRow)
    assert (bad.key, bad.content) == ("dump.xml:12", ARTICLE.encode())
    assert "no such token" in bad.reason
    assert articles(rows) == EXPECTED[1:]
