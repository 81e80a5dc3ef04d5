"""Pictures in folders: `<class>/x.jpg` or `<split>/<class>/x.jpg`, as ImageNet is mostly laid out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from genloom import ImageColumn
from genloom.data import Column
from genloom.formats import BadRow, Files, Format, SourceRow, Unit, grouped
from genloom_platform.data.formats.folders import Folders, folders_of, rows_of

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
OTHERS = (".avif", ".bmp", ".gif", ".heic", ".jp2", ".tif", ".tiff")
"""Pictures too, but not ones that are kept as they are: bad rows, so that none vanishes unsaid."""


class ImageFolder(Format):
    """Pictures, with the class and the split that their folders name.

    The files are kept as they are. Where there is no class folder, there is no column `label`.
    """

    contract: ClassVar[str] = "1.0"
    reads: ClassVar[str] = (
        "a folder or an archive of JPEG, PNG and WebP files, in folders by class or not"
    )

    def columns(self, files: Files) -> Mapping[str, Column]:
        """The picture, and its class where there are class folders."""
        return {"image": ImageColumn(), **_folders(files).label_columns()}

    def units(self, files: Files) -> Sequence[Unit]:
        """Groups of files."""
        return grouped(files, SUFFIXES + OTHERS)

    def rows(self, files: Files, unit: Unit) -> Iterator[SourceRow | BadRow]:
        """The files' bytes."""

        def read(name: str) -> bytes:
            if name.lower().endswith(OTHERS):
                raise ValueError("a picture of this kind is not read; convert it to PNG, JPEG or WebP")
            with files.open(name) as file:
                return file.read()

        yield from rows_of(_folders(files), files, unit, "image", read)


def _folders(files: Files) -> Folders:
    return folders_of(files, SUFFIXES, "picture", OTHERS)
