"""Import of a version that was exported: looked at whole before anything is written. Nothing in it is trusted.

Names are plain ones of a closed set, so none leads elsewhere; nothing is packed, so nothing can swell; and every
file must have the size and the digest that the contents state.
"""

import hashlib
import re
import tempfile
import zipfile
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from genloom.errors import DataError, RequestError
from genloom_platform.data.manifest import Manifest
from genloom_platform.models import card, release
from genloom_platform.models.archive import BLOCK, CONTENTS, FORMAT, Archive
from genloom_platform.models.lineage import ORIGIN
from genloom_platform.models.registry import Registry, Version
from genloom_platform.models.release import Release
from genloom_platform.names import identifier
from genloom_platform.store import Store
from genloom_platform.train.runs import Run

NAMES = re.compile(
    r"model\.json|model\.safetensors|card\.md|loss\.png|samples/[a-z0-9]+\.(json|png|txt|wav|mid)|"
    r"origin/(run|archive|dataset-[a-z0-9][a-z0-9._-]{0,120})\.json"
)
MAX_TEXT_BYTES = 16 << 20
"""More than any description, record or card has."""
Parsed = TypeVar("Parsed", bound=BaseModel)
KINDS: dict[str, type[BaseModel]] = {f"{ORIGIN}/run.json": Run, f"{ORIGIN}/{CONTENTS}": Archive}
NEEDED = (release.DESCRIPTION, release.WEIGHTS)


def import_(store: Store, file: Path, name: str | None = None) -> Version:
    """Register a version that was exported from another store.

    Args:
        store: Where it goes.
        file: The archive.
        name: The model's name here; the one that it had where None.

    Raises:
        RequestError: The file is missing or is no archive, or the version is here already.
        DataError: The archive is damaged, was altered, or holds what it must not.
    """
    if not file.is_file():
        raise RequestError(f"there is no file {file}; genloom models export makes one")
    try:
        with zipfile.ZipFile(file) as archive:
            contents, made = _checked(archive, file)
            made = made.model_copy(update={"name": identifier("model", name or made.name)})
            _refuse_known(store, made)
            store.check_writable()
            _write(store, archive, contents, made)
    except zipfile.BadZipFile as error:
        raise RequestError(f"{file} is no archive of a model, or is cut short: {error}") from error
    try:
        return _register(store, contents, made)
    except BaseException:
        store.delete(made.path)
        raise


def _register(store: Store, contents: Archive, made: Release) -> Version:
    registry = Registry(store)
    version = registry.register(made, contents.registered.measured, None)
    if contents.registered.tags:
        version = registry.tag(version, contents.registered.tags)
    if card.MARKDOWN in contents.files:
        card.render(store, version)
    return version


def _checked(archive: zipfile.ZipFile, file: Path) -> tuple[Archive, Release]:
    """What an archive holds, once all of it is as it must be."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if CONTENTS not in names:
        raise RequestError(f"{file} is no archive of a model: it lacks {CONTENTS}")
    odd = [name for name in names if name != CONTENTS and not NAMES.fullmatch(name)]
    if odd or len(set(names)) < len(names):
        raise DataError(
            f"{file} holds {odd[0] if odd else 'a file twice'!r}, which no export has; do not use it"
        )
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise DataError(f"{file} holds packed or encrypted files, which no export has; do not use it")
    if sum(entry.file_size for entry in entries) > file.stat().st_size:
        raise DataError(f"{file} claims more bytes than it has; do not use it")
    contents = _parsed(archive, CONTENTS, Archive, file)
    if contents.format != FORMAT:
        raise DataError(
            f"{file} has the format {contents.format}, and this platform reads {FORMAT}; pip install "
            f"genloom-platform=={contents.platform}"
        )
    _check_digests(archive, contents, file)
    made = _parsed(archive, release.DESCRIPTION, Release, file)
    identifier("model", made.name)
    identifier("run", made.run)
    stated = contents.files[release.WEIGHTS]
    if (made.weights_sha256, made.weights_bytes) != (stated.sha256, stated.size_bytes):
        raise DataError(f"{file}: the weights are not those that model.json describes; do not use it")
    for name in contents.files:
        if name.startswith(f"{ORIGIN}/"):
            _parsed(archive, name, KINDS.get(name, Manifest), file)
    return contents, made


def _check_digests(archive: zipfile.ZipFile, contents: Archive, file: Path) -> None:
    """Raise DataError where files are missing, are others, or were altered."""
    there = {entry.filename: entry.file_size for entry in archive.infolist()}
    del there[CONTENTS]
    stated = {name: entry.size_bytes for name, entry in contents.files.items()}
    wrong = sorted(
        {*NEEDED, *there, *stated} - {n for n, size in stated.items() if there.get(n) == size}
    )
    if not wrong:
        wrong = [
            name for name, entry in contents.files.items() if _digest(archive, name) != entry.sha256
        ]
    if wrong:
        raise DataError(f"{file} is damaged or was altered: {', '.join(wrong[:5])}; export it again")


def _digest(archive: zipfile.ZipFile, name: str) -> str:
    digest = hashlib.sha256()
    try:
        with archive.open(name) as source:
            while block := source.read(BLOCK):
                digest.update(block)
    except zipfile.BadZipFile:
        return "unreadable"
    return digest.hexdigest()


def _parsed(archive: zipfile.ZipFile, name: str, kind: type[Parsed], file: Path) -> Parsed:
    if archive.getinfo(name).file_size > MAX_TEXT_BYTES:
        raise DataError(f"{file}: {name} is larger than any that was exported; do not use it")
    try:
        return kind.model_validate_json(archive.read(name))
    except ValidationError as error:
        raise DataError(
            f"{file}: {name} cannot be read ({error.error_count()} faults); it was altered, or another "
            f"version of the platform wrote it"
        ) from error


def _refuse_known(store: Store, made: Release) -> None:
    """Raise RequestError where the release's folder is taken: releases never change."""
    for version in Registry(store).versions():
        if version.place == made.path:
            raise RequestError(f"it is here already, as {version.full_name}")
    if store.names(made.path):
        raise RequestError(
            f"{store.url}/{made.path} is taken by files that no version names; remove them, or give --name"
        )


def _write(store: Store, archive: zipfile.ZipFile, contents: Archive, made: Release) -> None:
    """Write all files, the description last; where that fails, none is left."""
    try:
        with tempfile.TemporaryDirectory(prefix="genloom-archive-") as scratch:
            for name, entry in contents.files.items():
                if name == release.DESCRIPTION:
                    continue
                local = Path(archive.extract(name, scratch))
                _, digest = store.upload(local, f"{made.path}/{name}")
                local.unlink()
                if digest != entry.sha256:
                    raise DataError(f"{name} was altered while it was imported; do not use the file")
        store.write(f"{made.path}/{ORIGIN}/{CONTENTS}", contents.model_dump_json(indent=1).encode())
        store.write(f"{made.path}/{release.DESCRIPTION}", made.model_dump_json(indent=1).encode())
    except BaseException:
        store.delete(made.path)
        raise
