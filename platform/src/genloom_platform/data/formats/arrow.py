"""Arrow IPC: files (also called Feather v2) and streams."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, ClassVar

import pyarrow as pa

from genloom.errors import DataError
from genloom.formats import BadRow, Files, Unit, grouped
from genloom_platform.data.formats.batches import rows_of
from genloom_platform.data.formats.columns import refuse_foreign
from genloom_platform.data.formats.places import where
from genloom_platform.data.formats.tables import LOOKED_AT_ROWS, Raw, Table

FILE_MARK = b"ARROW1"
OLD_FEATHER_MARK = b"FEA1"
STREAM_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""How a stream that was closed ends, since Arrow 0.15."""


class ArrowFiles(Table):
    """Arrow IPC files and streams of one schema. A file is read by one worker."""

    reads: ClassVar[str] = "an Arrow file or stream (.arrow, .feather …), or a folder of them"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".arrows", ".feather", ".ipc")

    def schema_of(self, files: Files, name: str) -> pa.Schema:
        """The columns of a file."""
        with opened(files, name) as (schema, _):
            return schema

    def units(self, files: Files) -> Sequence[Unit]:
        """Whole files."""
        return grouped(files, names=self.names(files))

    def records(
        self, files: Files, unit: Unit, wanted: Sequence[str]
    ) -> Iterator[tuple[str, Raw] | BadRow]:
        """The rows of some files, by their number in the file."""
        for name in unit.files:
            with opened(files, name) as (_, batches):
                rows = (row for batch in batches for row in rows_of(batch, wanted))
                for number, row in enumerate(rows, 1):
                    yield f"{name}:{number}", row

    def head(self, files: Files, name: str, wanted: Sequence[str]) -> Iterator[Raw]:
        """The first rows of a file."""
        with opened(files, name) as (_, batches):
            rows = (row for batch in batches for row in rows_of(batch, wanted))
            for number, row in enumerate(rows, 1):
                yield row
                if number == LOOKED_AT_ROWS:
                    return


@contextmanager
def opened(files: Files, name: str) -> Generator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """The schema of an IPC file or stream, all of whose columns may be read, and its batches.

    Raises:
        DataError: It is neither, is cut short, or holds what must not be read.
    """
    try:
        with files.open(name) as source:
            mark = source.read(len(FILE_MARK))
            if mark.startswith(OLD_FEATHER_MARK):
                raise DataError(
                    f"{where(files, name)} is Feather version 1, which is no Arrow file; write it as version 2"
                )
            if mark == FILE_MARK:
                source.seek(0)
                file = pa.ipc.open_file(source)
                refuse_foreign(file.schema, where(files, name))
                yield file.schema, (file.get_batch(i) for i in range(file.num_record_batches))
            else:
                _check_end(source, files, name)
                stream = pa.ipc.open_stream(source)
                refuse_foreign(stream.schema, where(files, name))
                yield stream.schema, iter(stream)
    except (pa.ArrowException, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{where(files, name)} is no whole Arrow file or stream: {reason}; download it again"
        ) from error


def _check_end(source: BinaryIO, files: Files, name: str) -> None:
    """Raise where a stream was not closed: cut between two batches, it would read as a shorter one."""
    source.seek(max(files.sizes[name] - len(STREAM_END), 0))
    if not source.read().endswith(STREAM_END):
        raise EOFError("it does not end as a stream does")
    source.seek(0)
