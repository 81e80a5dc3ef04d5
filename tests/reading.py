"""A format's rows, read from files on this disk by the platform's own source."""

from genloom import BadRow
from genloom_platform.data.source import open_files
from genloom_platform.store import Store


def files_of(path):
    """A file or a folder as a format sees it."""
    return open_files(str(path), Store(str(path)), "scratch")


def written(root, contents):
    """A folder with files in it, by name and bytes, as a format sees it."""
    for name, content in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return files_of(root)


def rows_of(reader, files):
    """All rows of all units."""
    return [row for unit in reader.units(files) for row in reader.rows(files, unit)]


def good_rows(reader, files):
    """All rows, none of which is bad or has another's key."""
    rows = rows_of(reader, files)
    assert not [row for row in rows if isinstance(row, BadRow)]
    assert len({row.key for row in rows}) == len(rows)
    return rows
