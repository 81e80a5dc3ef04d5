"""A version as one file, to take it to another store: a zip of plain files, each with its digest; no pickle.

    archive.json                 what the file holds, and what the registry knew of it
    model.json, model.safetensors, card.md, loss.png, samples/…
    origin/run.json, origin/dataset-….json      the records of where it was made

The digests tell of damage. They do not tell who made the file: whoever can alter it can alter them.
`unpack.py` reads one.
"""

import hashlib
import os
import secrets
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import version as installed
from pathlib import Path

from genloom.data import Facts
from genloom.errors import DataError, GenloomError, RequestError
from genloom_platform.data import manifest as manifests
from genloom_platform.models import card, release, samples
from genloom_platform.models.lineage import ORIGIN, datasets_of
from genloom_platform.models.record import Registered
from genloom_platform.models.registry import Registry, Version
from genloom_platform.models.release import Release
from genloom_platform.store import Store

CONTENTS = "archive.json"
FORMAT = 1
BLOCK = 1 << 20


class Entry(Facts):
    """A file of an archive."""

    size_bytes: int
    sha256: str


class Archive(Facts):
    """What an archive holds."""

    format: int = FORMAT
    model: str
    """`name@number` in the store that it comes from."""
    platform: str
    registered: Registered
    files: dict[str, Entry]


def export(store: Store, reference: str, file: Path) -> Archive:
    """Write a version to a file: its weights, samples, card, and the records of where it was made.

    Raises:
        UnknownName: There is no such model, version or alias.
        RequestError: The file is there already, or its folder cannot be written.
        DataError: The weights are not those that were released.
    """
    version = Registry(store).find(reference)
    if file.exists():
        raise RequestError(f"{file} is there already; give another name, or remove it")
    if not file.absolute().parent.is_dir():
        raise RequestError(f"there is no folder {file.absolute().parent}; make it, or give another")
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    try:
        with tempfile.TemporaryDirectory(prefix="genloom-archive-") as scratch:
            made = _write(store, version, draft, Path(scratch))
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    return made


def _write(store: Store, version: Version, draft: Path, scratch: Path) -> Archive:
    whole, weights = standing_alone(store, version, scratch)
    files: dict[str, Entry] = {}
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as out:

        def add(name: str, content: bytes) -> None:
            out.writestr(name, content)
            files[name] = Entry(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

        add(release.DESCRIPTION, whole.model_dump_json(indent=1).encode())
        out.write(weights, release.WEIGHTS)
        files[release.WEIGHTS] = Entry(size_bytes=whole.weights_bytes, sha256=whole.weights_sha256)
        for name, content in _others(store, version):
            add(name, content)
        made = Archive(
            model=version.full_name,
            platform=installed("genloom-platform"),
            registered=Registered.of(version.number, version.metrics, version.tags),
            files=files,
        )
        out.writestr(CONTENTS, made.model_dump_json(indent=1))
    return made


def standing_alone(store: Store, version: Version, scratch: Path) -> tuple[Release, Path]:
    """A release that needs no other's weights, and the file of its own; an adapter is merged into its base.

    Raises:
        DataError: The weights are not those that were released.
    """
    made, local = version.release, scratch / release.WEIGHTS
    if made.adapter:
        from genloom_platform.models.merge import merge

        return merge(store, made, local), local
    if store.download(f"{made.path}/{release.WEIGHTS}", local) != made.weights_sha256:
        raise DataError(
            f"the weights of {version.full_name} in {store.url}/{made.path} are corrupt; nothing was exported"
        )
    return made, local


def _others(store: Store, version: Version) -> Iterator[tuple[str, bytes]]:
    """The files beside the weights, and the records of where they were made, as far as they are there."""
    place = version.place
    drawn = samples.read(store, place)
    shown = [samples.RECORD, *(each.file for each in drawn.examples), *drawn.sha256]
    for name in [*(shown if drawn.examples else []), card.MARKDOWN, card.LOSSES]:
        if store.exists(f"{place}/{name}"):
            yield name, store.read(f"{place}/{name}")
    brought = store.names(f"{place}/{ORIGIN}")
    for name in brought:
        yield f"{ORIGIN}/{name}", store.read(f"{place}/{ORIGIN}/{name}")
    if brought:
        return  # it was imported itself: its records are those of its first store
    if store.exists(f"runs/{version.run}/run.json"):
        yield f"{ORIGIN}/run.json", store.read(f"runs/{version.run}/run.json")
    for part in datasets_of(version.dataset):
        try:
            manifest = manifests.load(store, part)
        except GenloomError:
            continue  # deleted: its name and digest stand in the release
        name = f"{ORIGIN}/dataset-{manifest.name}-{manifest.version}.json"
        yield name, manifest.model_dump_json(indent=1).encode()
