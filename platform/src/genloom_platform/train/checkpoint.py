"""Checkpoints: everything needed to go on exactly where a run was, committed at one stroke.

    runs/<run>/checkpoints/<step>/<part>.safetensors   every rank's state, first
    runs/<run>/checkpoints/<step>/<part>.json          its digest, once it is stored
    runs/<run>/checkpoints/<step>/manifest.json        all digests, last: until then there is no checkpoint

Nothing of it is a pickle, and nothing is read into a model whose digest is not the one recorded here.
"""

import datetime
import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from pydantic import ValidationError

from genloom.data import Facts
from genloom.errors import GenloomError
from genloom_platform.store import Store
from genloom_platform.train.failures import DamagedCheckpoint

if TYPE_CHECKING:
    from genloom_platform.config import Checkpoints
    from genloom_platform.train.engine import Engine

READ_WHOLE_BYTES = 256 << 20
"""Checkpoints up to this size are read whole before a run goes on from them; larger ones as they are loaded."""
MANIFEST = "manifest.json"


class File(Facts):
    """A file of a checkpoint."""

    size_bytes: int
    sha256: str


class Checkpoint(Facts):
    """A committed checkpoint."""

    step: int
    """Steps that were done."""
    workers: int
    zero_stage: int
    files: dict[str, File]
    metrics: dict[str, float]
    """Of the step."""
    created_at: str
    digest: str = ""
    """SHA-256 of all that stands above."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files.values())

    def signed(self) -> "Checkpoint":
        """The same with its digest."""
        text = self.model_dump_json(exclude={"digest"})
        return self.model_copy(update={"digest": hashlib.sha256(text.encode()).hexdigest()})


@dataclass(frozen=True)
class Found:
    """Where a run can go on."""

    checkpoint: Checkpoint | None
    """The newest good one; None where there is none."""
    damaged: dict[int, str] = field(default_factory=dict[int, str])
    """What is wrong with newer ones, by step."""

    @property
    def step(self) -> int:
        """The step to go on from."""
        return self.checkpoint.step if self.checkpoint else 0


def folder(run: str) -> str:
    """Where a run's checkpoints are."""
    return f"runs/{run}/checkpoints"


def place(run: str, step: int) -> str:
    """Where the checkpoint of a step is."""
    return f"{folder(run)}/{step:08d}"


def committed(store: Store, run: str) -> list[int]:
    """The steps of a run's committed checkpoints, the newest first."""
    names = store.names(folder(run))
    return [int(n) for n in reversed(names) if store.exists(f"{folder(run)}/{n}/{MANIFEST}")]


def find(store: Store, run: str, without: Container[int] = ()) -> Found:
    """The newest good checkpoint of a run, and what is wrong with those that are newer.

    Args:
        store: Where the run is.
        run: Its name.
        without: Steps of checkpoints that are known to be damaged.
    """
    damaged: dict[int, str] = {}
    for step in committed(store, run):
        if step in without:
            continue
        try:
            checkpoint = read(store, run, step)
            _check(store, run, checkpoint)
        except DamagedCheckpoint as error:
            damaged[step] = error.why
        else:
            return Found(checkpoint, damaged)
    return Found(None, damaged)


def read(store: Store, run: str, step: int) -> Checkpoint:
    """The record of a committed checkpoint.

    Raises:
        DamagedCheckpoint: It is not as it was written.
    """
    path = f"{place(run, step)}/{MANIFEST}"
    try:
        checkpoint = Checkpoint.model_validate_json(store.read(path))
    except (FileNotFoundError, ValidationError) as error:
        raise DamagedCheckpoint(step, f"{store.url}/{path} cannot be read") from error
    if checkpoint.signed().digest != checkpoint.digest or checkpoint.step != step:
        raise DamagedCheckpoint(step, f"{store.url}/{path} has another digest than when it was saved")
    return checkpoint


def load(store: Store, run: str, engine: "Engine", step: int) -> int:
    """Load a checkpoint into the engine, whatever the number of ranks and the ZeRO stage; returns its step.

    Raises:
        DamagedCheckpoint: A file is not what was saved. It has not been read into the model.
        TrainingError: It is not of this model.
    """
    from genloom_platform.train.snapshot import Parts

    checkpoint = read(store, run, step)
    with TemporaryDirectory(prefix="genloom-load-") as scratch:
        paths = [
            _verified(store, run, checkpoint, name, Path(scratch))
            for name in _needed(checkpoint, engine)
        ]
        engine.load(Parts(paths), step)
    return step


def prune(store: Store, run: str, settings: "Checkpoints", saved: int) -> None:
    """Delete what is neither among the newest nor the best, each its manifest first; and what was cut off.

    Checkpoints are saved one after the other, so what is older than a committed one and is not itself will
    never be; and what is newer than the one just saved was passed over as damaged, and counts for nothing.

    Args:
        store: Where the run is.
        run: Its name.
        settings: How many are kept.
        saved: The step of the checkpoint that was committed last.
    """
    found = committed(store, run)
    steps = [step for step in found if step <= saved]
    kept = set(steps[: settings.keep])
    if settings.best:
        kept |= set(_best(store, run, steps, settings))
    for step in set(found) - kept:
        store.remove(f"{place(run, step)}/{MANIFEST}")
        store.delete(place(run, step))
    for name in store.names(folder(run)):
        if int(name) < max(steps, default=0) and int(name) not in steps:
            store.delete(f"{folder(run)}/{name}")


def _best(store: Store, run: str, steps: list[int], settings: "Checkpoints") -> list[int]:
    """The step with the best value of a metric, if any has one."""
    values: dict[int, float] = {}
    for step in steps:
        try:
            values[step] = read(store, run, step).metrics[str(settings.best)]
        except (DamagedCheckpoint, KeyError):
            continue
    choose = min if settings.best_is == "lowest" else max
    return [choose(values, key=lambda step: values[step])] if values else []


def _needed(checkpoint: Checkpoint, engine: "Engine") -> Iterator[str]:
    """The files that this rank reads: its own where the layout is the same, else all."""
    same = checkpoint.workers == engine.world and checkpoint.zero_stage == engine.config.zero_stage
    for name in checkpoint.files:
        part = name.partition(".")[0]
        if not same or engine.replicates or part in (f"rank-{engine.rank}", "rest"):
            yield name


def _verified(store: Store, run: str, checkpoint: Checkpoint, name: str, scratch: Path) -> Path:
    """A file of a checkpoint on this disk, once its digest has been found right."""
    path = f"{place(run, checkpoint.step)}/{name}"
    try:
        sha256 = store.digest(path) if store.folder else store.download(path, scratch / name)
    except (FileNotFoundError, GenloomError) as error:
        raise DamagedCheckpoint(checkpoint.step, f"{store.url}/{path} cannot be read") from error
    if sha256 != checkpoint.files[name].sha256:
        raise DamagedCheckpoint(
            checkpoint.step, f"{store.url}/{path} has another digest than when it was saved"
        )
    return store.folder / path if store.folder else scratch / name


def _check(store: Store, run: str, checkpoint: Checkpoint) -> None:
    """Raise DamagedCheckpoint where a file is missing or cut; small checkpoints are read whole."""
    sizes = store.sizes(place(run, checkpoint.step))
    for name, file in checkpoint.files.items():
        path = f"{store.url}/{place(run, checkpoint.step)}/{name}"
        if name not in sizes:
            raise DamagedCheckpoint(checkpoint.step, f"{path} is missing")
        if sizes[name] != file.size_bytes:
            raise DamagedCheckpoint(
                checkpoint.step, f"{path} has {sizes[name]:,} bytes of {file.size_bytes:,}"
            )
    if checkpoint.size_bytes <= READ_WHOLE_BYTES:
        with TemporaryDirectory(prefix="genloom-check-") as scratch:
            for name in checkpoint.files:
                _verified(store, run, checkpoint, name, Path(scratch))


def now() -> str:
    """The time, as records keep it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
