"""Parquet files; units are row groups."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from genloom.errors import DataError
from genloom.formats import UNIT_BYTES, BadRow, Files, Unit
from genloom_platform.data.formats.batches import STEP_ROWS, rows_of
from genloom_platform.data.formats.columns import refuse_foreign
from genloom_platform.data.formats.places import where
from genloom_platform.data.formats.tables import LOOKED_AT_ROWS, Raw, Table


class ParquetFiles(Table):
    """Parquet files of one schema, also as the Hugging Face hub publishes them, with their class names."""

    reads: ClassVar[str] = "a .parquet file, or a folder of them"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)

    def schema_of(self, files: Files, name: str) -> pa.Schema:
        """The columns of a file."""
        with _opened(files, name) as file:
            return file.schema_arrow

    def units(self, files: Files) -> Sequence[Unit]:
        """Row groups, small ones of a file together."""
        return [unit for name in self.names(files) for unit in _groups(files, name)]

    def records(
        self, files: Files, unit: Unit, wanted: Sequence[str]
    ) -> Iterator[tuple[str, Raw] | BadRow]:
        """The rows of some row groups, by their number in the file."""
        (name,) = unit.files
        with _opened(files, name) as file:
            stop = file.num_row_groups if unit.stop is None else unit.stop
            number = sum(file.metadata.row_group(group).num_rows for group in range(unit.start))
            for row in _rows(file, range(unit.start, stop), wanted):
                number += 1
                yield f"{name}:{number}", row

    def head(self, files: Files, name: str, wanted: Sequence[str]) -> Iterator[Raw]:
        """The first rows of a file."""
        with _opened(files, name) as file:
            for number, row in enumerate(_rows(file, range(file.num_row_groups), wanted), 1):
                yield row
                if number == LOOKED_AT_ROWS:
                    return


@contextmanager
def _opened(files: Files, name: str) -> Generator[pq.ParquetFile]:
    """A file whose columns may all be read, whatever is in them."""
    try:
        with files.open(name) as source, pq.ParquetFile(source) as file:
            refuse_foreign(file.schema_arrow, where(files, name))
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{where(files, name)} is no whole Parquet file: {reason}; download it again"
        ) from error


def _rows(
    file: pq.ParquetFile, groups: Sequence[int], wanted: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for group in groups:
        for batch in file.iter_batches(STEP_ROWS, row_groups=[group], columns=list(wanted)):
            yield from rows_of(batch, wanted)


def _groups(files: Files, name: str) -> Iterator[Unit]:
    with _opened(files, name) as file:
        start = size_bytes = 0
        for group in range(file.num_row_groups):
            size_bytes += file.metadata.row_group(group).total_byte_size
            if size_bytes >= UNIT_BYTES or group == file.num_row_groups - 1:
                yield Unit((name,), start, group + 1, size_bytes)
                start, size_bytes = group + 1, 0
