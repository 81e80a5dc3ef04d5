"""Markdown as one HTML page that needs no other file: pictures and sounds are inside it.

No HTML of the text is let through, and the page itself may load and run nothing.
"""

import base64
import re
from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

SHOWN = {"png": "image/png", "wav": "audio/wav"}
"""The media type of what a page shows, by its file's ending."""
PICTURE = re.compile(rf"([a-z0-9-]+/)?[a-z0-9-]+\.({'|'.join(SHOWN)})")
"""A file beside the text or one folder below."""


def text_templates() -> Environment:
    """Templates of Markdown, with filters for what stands in a table or a block.

    They escape no HTML: `to_html` shows what there is of it as text.
    """
    made = Environment(
        loader=PackageLoader("genloom_platform.models"),
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701
    )
    made.filters.update(cell=_cell, code=_code, block=_block)
    return made


def to_html(markdown: str, title: str, read: Callable[[str], bytes]) -> str:
    """A page of some Markdown.

    Args:
        markdown: The text. Pictures that are no plain file names stay out: it may come from elsewhere.
        title: The page's title.
        read: Gives the bytes of a file that the text shows.
    """
    parser = _parser()

    def picture(tokens: Any, index: int, *_: Any) -> str:
        source, words = str(tokens[index].attrs["src"]), tokens[index].content
        if not PICTURE.fullmatch(source):
            return str(escape(words))
        kind = SHOWN[source.rpartition(".")[2]]
        place = f"data:{kind};base64,{base64.b64encode(read(source)).decode('ascii')}"
        if kind.startswith("audio/"):
            return str(Markup('<audio controls src="{}"></audio>').format(place))
        return str(Markup('<img alt="{}" src="{}">').format(words, place))

    parser.renderer.rules["image"] = picture
    pages = Environment(loader=PackageLoader("genloom_platform.models"), autoescape=True)
    body = Markup(parser.render(markdown))  # noqa: S704
    return pages.get_template("card.html.jinja").render(name=title, body=body)


def pictures(markdown: str) -> list[str]:
    """The files that some Markdown shows, those of plain names."""
    tokens = [inner for token in _parser().parse(markdown) for inner in token.children or []]
    named = [str(token.attrs["src"]) for token in tokens if token.type == "image"]
    return [name for name in named if PICTURE.fullmatch(name)]


def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _cell(value: object) -> str:
    """Text on one line that ends no cell of a table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _code(value: object) -> str:
    """Text as it is, in a cell of a table."""
    shown = " ".join(str(value).split()).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    return f"{fence} {shown} {fence}" if "`" in shown else f"{fence}{shown or ' '}{fence}"


def _block(value: object) -> str:
    """Text as it is, in a block of its own."""
    shown = str(value)
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    return f"{fence}text\n{shown}\n{fence}"
