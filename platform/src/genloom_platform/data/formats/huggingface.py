"""What the Hugging Face `datasets` library writes with `save_to_disk`: a Dataset, or a DatasetDict of splits.

A Dataset is a folder of `state.json`, which lists the Arrow streams `data-*.arrow`, and
`dataset_info.json`, which describes the columns; a DatasetDict is `dataset_dict.json` and a folder for
each split. The library itself is not needed to read them.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import pyarrow as pa

from genloom.data import Column
from genloom.errors import DataError, RequestError
from genloom.formats import Files, Unit
from genloom_platform.data.formats.arrow import ArrowFiles
from genloom_platform.data.formats.columns import Hint, hints
from genloom_platform.data.formats.places import where

SPLIT = re.compile(r"\w+")
MAX_JSON_BYTES = 64 << 20


class HuggingFace(ArrowFiles):
    """A folder that `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""

    reads: ClassVar[str] = "a folder written by the datasets library's save_to_disk"

    def names(self, files: Files) -> list[str]:
        """The data files of all splits, in order."""
        return [name for folder in _folders(files) for name in _data_files(files, folder)]

    def hints(self, files: Files, schema: pa.Schema) -> Mapping[str, Hint]:
        """What `dataset_info.json` says of the columns."""
        return hints(_features(files, next(iter(_folders(files)))))

    def splits(self, files: Files, unit: Unit) -> Mapping[str, str]:
        """The split of each data file: that of its folder, or the one that a lone Dataset was."""
        return {
            name: split
            for folder, split in _folders(files).items()
            for name in _data_files(files, folder)
            if split and name in unit.files
        }

    def columns(self, files: Files) -> Mapping[str, Column]:
        """The columns, with the classes that all splits must share."""
        first, *others = _folders(files)
        for other in others:
            if _features(files, other) != _features(files, first):
                raise DataError(
                    f"{files.url}: the features in {first}dataset_info.json and {other}dataset_info.json "
                    f"differ; save the splits with the same features"
                )
        return super().columns(files)


def _folders(files: Files) -> dict[str, str | None]:
    """The folders of the Datasets, each with the name of its split."""
    whole = _topmost(files, "dataset_dict.json")
    if whole is not None:
        splits = _json(files, whole).get("splits")
        if not isinstance(splits, list) or not splits:
            raise DataError(f"{where(files, whole)} names no splits; save the dataset again")
        top = whole.removesuffix("dataset_dict.json")
        return {f"{top}{split}/": str(split) for split in splits}
    state = _topmost(files, "state.json")
    if state is None:
        raise RequestError(
            f"{files.url} holds neither dataset_dict.json nor state.json; give a folder that the datasets "
            f"library's save_to_disk wrote"
        )
    split = SPLIT.match(str(_json(files, state).get("_split") or ""))
    return {state.removesuffix("state.json"): split[0] if split else None}


def _topmost(files: Files, wanted: str) -> str | None:
    """A file at the top of the source, or in the one folder there."""
    found = [name for name in files.sizes if name.rpartition("/")[2] == wanted and name.count("/") < 2]
    if len(found) > 1:
        raise RequestError(f"{files.url} holds {' and '.join(found)}; give the folder of one dataset")
    return found[0] if found else None


def _data_files(files: Files, folder: str) -> list[str]:
    listed = _json(files, f"{folder}state.json").get("_data_files")
    if not isinstance(listed, list) or not listed:
        raise DataError(
            f"{where(files, f'{folder}state.json')} lists no data files; save the dataset again"
        )
    names = [f"{folder}{file['filename'] if isinstance(file, dict) else file}" for file in listed]
    missing = [name for name in names if name not in files.sizes]
    if missing:
        raise DataError(
            f"{files.url} lacks {', '.join(missing)}, which {folder}state.json lists; copy the whole folder"
        )
    return names


def _features(files: Files, folder: str) -> dict[str, Any]:
    return _json(files, f"{folder}dataset_info.json").get("features") or {}


def _json(files: Files, name: str) -> dict[str, Any]:
    if name not in files.sizes:
        raise DataError(f"{files.url} lacks {name}; copy the whole folder that save_to_disk wrote")
    with files.open(name) as file:
        try:
            content: Any = json.loads(file.read(MAX_JSON_BYTES))
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{where(files, name)} is no JSON: {error}; save the dataset again"
            ) from error
    if not isinstance(content, dict):
        raise DataError(f"{where(files, name)} is no JSON object; save the dataset again")
    return cast(dict[str, Any], content)
