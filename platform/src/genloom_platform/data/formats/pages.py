"""MediaWiki's XML export, page by page, out of a stream of bytes.

Source: https://www.mediawiki.org/wiki/Help:Export. Memory holds one page at a time. Document types are
refused: no dump has one, and they declare entities, which can expand without end (billion laughs).
"""

# Entity declarations, for which expat is feared, can only stand in a document type.
import xml.parsers.expat as expat
from dataclasses import dataclass, field

from genloom.errors import DataError

MAX_PAGE_CHARS = 64 << 20
KEPT = {
    "mediawiki/page/title": "title",
    "mediawiki/page/ns": "namespace",
    "mediawiki/page/id": "id",
    "mediawiki/page/revision/text": "text",
    "mediawiki/siteinfo/namespaces/namespace": "name",
}


@dataclass
class Page:
    """A page as the dump has it."""

    title: str = ""
    namespace: str = ""
    id: str = ""
    text: str = ""
    """Wiki markup, of the last revision that the dump holds."""
    redirect: bool = False


@dataclass
class PageReader:
    """Takes a dump's bytes and gives its pages.

    Several streams of one dump may be read alone: `fragment` says that the bytes begin between two pages.
    """

    where: str
    """The dump, for messages."""
    fragment: bool = False
    namespaces: dict[str, str] = field(default_factory=dict[str, str])
    """Number → name, from the head of the dump."""
    last_title: str = ""

    def __post_init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.buffer_size = 1 << 16
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._path: list[str] = []
        self._pages: list[Page] = []
        self._page = Page()
        self._values: list[str] = []
        self._size = 0
        self._kept: str | None = None
        self._number = ""
        self.closed = False
        if self.fragment:
            self._feed(b"<mediawiki>")

    @property
    def between_pages(self) -> bool:
        """Whether what was fed ends where a page may follow."""
        return self._path == ["mediawiki"]

    def feed(self, data: bytes) -> list[Page]:
        """Take some bytes; returns the pages that they complete.

        Raises:
            DataError: It is no MediaWiki dump, or is damaged.
        """
        self._feed(data)
        pages, self._pages = self._pages, []
        return pages

    def fault(self, what: str) -> DataError:
        """An error with its place in the dump."""
        place = f"after the page {self.last_title!r}" if self.last_title else "before the first page"
        return DataError(f"{self.where} {what} {place}; download it again and compare its checksum")

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.Parse(data, False)
        except expat.ExpatError as error:
            raise self.fault(f"is damaged ({error})") from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        if self._path[0] != "mediawiki":
            raise DataError(
                f"{self.where} is no MediaWiki dump: its outermost element is <{name}>; give a "
                f"…-pages-articles.xml.bz2"
            )
        if name == "page":
            self._page = Page()
        elif name == "redirect":
            self._page.redirect = True
        elif name == "namespace":
            self._number = attributes.get("key", "")
        self._kept = KEPT.get("/".join(self._path))
        self._values, self._size = [], 0

    def _characters(self, data: str) -> None:
        if self._kept:
            self._size += len(data)
            if self._size > MAX_PAGE_CHARS:
                raise self.fault(f"has a page of over {MAX_PAGE_CHARS:,} characters")
            self._values.append(data)

    def _end(self, name: str) -> None:
        if self._kept == "name":
            self.namespaces[self._number] = "".join(self._values)
        elif self._kept:
            setattr(self._page, self._kept, "".join(self._values))
        self._kept = None
        self._path.pop()
        if name == "page":
            self._pages.append(self._page)
            self.last_title = self._page.title
        self.closed = not self._path

    def _refuse(self, *_: object) -> None:
        raise DataError(
            f"{self.where} declares a document type, which no MediaWiki dump does and which can expand "
            f"without end; get the dump from its publisher"
        )
