"""Wikipedia: the articles of a MediaWiki dump as plain text.

Source: https://dumps.wikimedia.org, `…-pages-articles.xml.bz2` and `…-pages-articles-multistream.xml.bz2`,
also unpacked or as .gz. A multistream dump is many bzip2 streams, one after the other: the first holds
the head, each other some pages, the last the closing tag; so ranges of it are read in parallel.
Where the second stream does not begin with a page, or none begins within the first 16 MiB, the dump is
read as one piece.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import mwparserfromhell
from mwparserfromhell.nodes import Tag, Wikilink
from mwparserfromhell.parser import ParserError
from mwparserfromhell.wikicode import Wikicode
from pydantic import Field

from genloom.data import Column, TextColumn
from genloom.formats import BadRow, Files, Format, SourceRow, Unit, ranges
from genloom_platform.data.formats.compressed import blocks, next_stream, stream
from genloom_platform.data.formats.pages import Page, PageReader
from genloom_platform.data.formats.places import named, where

SUFFIXES = (".xml", ".xml.bz2", ".xml.gz")
PART = re.compile(r"\.xml-p\d+p\d+(\.bz2|\.gz)?$")
"""What the parts of a large wiki's dump end with."""
HEAD_BYTES = 16 << 20
MEDIA, FILE, CATEGORY = "-2", "6", "14"
REMOVED_TAGS = {"table", "ref", "references", "gallery", "math", "timeline"}
MAGIC_WORD = re.compile(r"__[A-Z]+__")
BLANK_LINES = re.compile(r"\n{3,}")


class Wikipedia(Format):
    """The articles of a MediaWiki dump, without markup; redirects and pages that are no articles are left out."""

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = (
        "a MediaWiki dump (…-pages-articles.xml.bz2, multistream or not, .xml or .gz)"
    )

    min_chars: int = Field(default=1, ge=0)
    """Articles with fewer characters of plain text are left out."""

    def columns(self, files: Files) -> Mapping[str, Column]:
        """The article's title and its plain text."""
        for name in _dumps(files):
            _head(files, name)
        return {"title": TextColumn(), "text": TextColumn()}

    def units(self, files: Files) -> Sequence[Unit]:
        """Ranges of a multistream dump's packed bytes; any other file whole."""
        units: list[Unit] = []
        for name in _dumps(files):
            if name.lower().endswith(".bz2") and _multistream(files, name):
                units += ranges(files, name)
            else:
                units.append(Unit((name,), size_bytes=files.sizes[name]))
        return units

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow | BadRow]:
        """One row an article; the key holds the page's number."""
        (name,) = unit.files
        hidden = _hidden(_head(files, name))
        for page in _whole(files, name) if unit.stop is None else _streams(files, name, unit):
            if page.namespace != "0" or page.redirect:
                continue
            key = f"{name}:{page.id or page.title}"
            try:
                text = plain_text(page.text, hidden)
            except (ParserError, RecursionError) as error:
                yield BadRow(key, f"the markup cannot be parsed ({error})", page.text.encode())
                continue
            if len(text) >= self.min_chars:
                yield SourceRow(key, {"title": page.title, "text": text})


def plain_text(markup: str, hidden: set[str]) -> str:
    """What a reader sees of an article's prose: no tables, references, templates, files, categories."""
    code = mwparserfromhell.parse(markup)
    _prune(code, hidden)
    lines = MAGIC_WORD.sub("", code.strip_code()).split("\n")
    return BLANK_LINES.sub("\n\n", "\n".join(line.strip() for line in lines)).strip()


def _prune(code: Wikicode, hidden: set[str]) -> None:
    """Remove what is not prose; in one pass, since `Wikicode.remove` searches the whole page each time."""
    code.nodes = [node for node in code.nodes if not _removed(node, hidden)]
    for node in code.nodes:
        for part in ("contents", "text", "title"):
            inner = getattr(node, part, None)
            if isinstance(inner, Wikicode):
                _prune(inner, hidden)


def _removed(node: Any, hidden: set[str]) -> bool:
    if isinstance(node, Tag):
        return str(node.tag).strip().lower() in REMOVED_TAGS
    if isinstance(node, Wikilink):
        prefix, colon, _ = str(node.title).partition(":")
        return bool(colon) and prefix.strip().lower() in hidden
    return False


def _hidden(head: PageReader) -> set[str]:
    """The namespaces whose links show no text, in English and in the wiki's own language."""
    local = {head.namespaces.get(number, "").lower() for number in (MEDIA, FILE, CATEGORY)}
    return ({"file", "image", "media", "category"} | local) - {""}


def _dumps(files: Files) -> list[str]:
    parts = [name for name in files.sizes if PART.search(name)]
    return parts or named(files, SUFFIXES, "dump (.xml, .xml.bz2 or .xml.gz)")


def _head(files: Files, name: str) -> PageReader:
    """A reader that was fed the dump's beginning, up to its first page.

    Raises:
        DataError: It is no dump.
    """
    reader = PageReader(where(files, name))
    size = 0
    for block in blocks(files, name):
        for start in range(0, len(block), 1 << 16):
            if reader.feed(block[start : start + (1 << 16)]) or reader.closed:
                return reader
        size += len(block)
        if size > HEAD_BYTES:
            return reader
    raise reader.fault("is cut short")


def _whole(files: Files, name: str) -> Iterator[Page]:
    """The pages of a dump that is read from its beginning to its end."""
    reader = PageReader(where(files, name))
    for block in blocks(files, name):
        yield from reader.feed(block)
    if not reader.closed:
        raise reader.fault("is cut short")


def _streams(files: Files, name: str, unit: Unit) -> Iterator[Page]:
    """The pages of the bzip2 streams that start in a range of the packed bytes."""
    stop = files.sizes[name] if unit.stop is None else unit.stop
    with files.open(name) as file:
        start = next_stream(file, unit.start, stop)
        if start is None:
            return
        reader = PageReader(where(files, name), fragment=start > 0)
        while start < stop:
            for block, place in stream(file, start, where(files, name)):
                yield from reader.feed(block)
                start = place
            if not reader.between_pages and not reader.closed:
                raise reader.fault("has a stream that ends within a page")
        if start >= files.sizes[name] and not reader.closed:
            raise reader.fault("is cut short")


def _multistream(files: Files, name: str) -> bool:
    """Whether the dump's head is a bzip2 stream of its own, and pages begin with the next."""
    with files.open(name) as file:
        second = next_stream(file, 1, min(HEAD_BYTES, files.sizes[name]))
        if second is None:
            return False
        reader = PageReader(where(files, name))
        for block, _ in stream(file, 0, where(files, name)):
            reader.feed(block)
        if not reader.between_pages:
            return False
        beginning = next((block for block, _ in stream(file, second, where(files, name)) if block), b"")
        return beginning.lstrip().startswith(b"<page>")
