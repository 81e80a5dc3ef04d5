"""Checkpoints: everything needed to go on exactly where a run was, committed at one stroke.

    runs/<run>/checkpoints/<step>/<files>         every rank's parts, first
    runs/<run>/checkpoints/<step>/manifest.json   their digests, last: until then there is no checkpoint

DeepSpeed's files are pickles, so nothing is loaded whose digest is not the one recorded here.
"""

import datetime
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch.distributed as dist
from pydantic import ValidationError

from genloom.data import Facts
from genloom.errors import GenloomError, TrainingError
from genloom_platform.store import Store

if TYPE_CHECKING:
    from genloom_platform.train.engine import Engine


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
    created_at: str


def folder(run: str) -> str:
    """Where a run's checkpoints are."""
    return f"runs/{run}/checkpoints"


def save(store: Store, run: str, engine: "Engine", step: int) -> None:
    """Save the engine; all ranks call it, and it is committed when it returns on any."""
    place = f"{folder(run)}/{step:08d}"
    with tempfile.TemporaryDirectory(prefix="genloom-save-") as scratch:
        engine.save(Path(scratch))
        mine = {
            str(path.relative_to(scratch)): store.upload(path, f"{place}/{path.relative_to(scratch)}")
            for path in sorted(Path(scratch).rglob("*"))
            if path.is_file() and path.suffix == ".pt"
        }
    everyone: list[dict[str, tuple[int, str]]] = [{} for _ in range(engine.world)]
    dist.all_gather_object(everyone, mine)
    if engine.rank == 0:
        files = {
            name: File(size_bytes=size_bytes, sha256=sha256)
            for rank in everyone
            for name, (size_bytes, sha256) in rank.items()
        }
        record = Checkpoint(
            step=step,
            workers=engine.world,
            zero_stage=zero_stage(engine),
            files=files,
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        store.write(f"{place}/manifest.json", record.model_dump_json(indent=1).encode())
        _prune(store, run, engine.config.checkpoint.keep)
    dist.barrier()


def newest(store: Store, run: str) -> Checkpoint | None:
    """The newest committed checkpoint of a run."""
    for name in reversed(store.names(folder(run))):
        path = f"{folder(run)}/{name}/manifest.json"
        if store.exists(path):
            try:
                return Checkpoint.model_validate_json(store.read(path))
            except ValidationError as error:
                raise TrainingError(
                    f"the checkpoint {store.url}/{path} is damaged; delete its folder"
                ) from error
    return None


def load(store: Store, run: str, engine: "Engine", checkpoint: Checkpoint) -> int:
    """Load a checkpoint into the engine; returns the steps that were done.

    Raises:
        TrainingError: It was written by another number of workers or ZeRO stage, or is damaged.
    """
    if (checkpoint.workers, checkpoint.zero_stage) != (engine.world, zero_stage(engine)):
        raise TrainingError(
            f"{run} was saved by {checkpoint.workers} workers at ZeRO stage {checkpoint.zero_stage}, and "
            f"this is {engine.world} at stage {zero_stage(engine)}; resume with the same of both"
        )
    place = f"{folder(run)}/{checkpoint.step:08d}"
    with tempfile.TemporaryDirectory(prefix="genloom-load-") as scratch:
        for name, file in checkpoint.files.items():
            try:
                sha256 = store.download(f"{place}/{name}", Path(scratch) / name)
            except (FileNotFoundError, GenloomError) as error:
                raise TrainingError(_damage(store, place, name, "cannot be read")) from error
            if sha256 != file.sha256:
                raise TrainingError(
                    _damage(store, place, name, "has another digest than when it was saved")
                )
        engine.load(Path(scratch))
        dist.barrier()
    return checkpoint.step


def zero_stage(engine: "Engine") -> int:
    """The ZeRO stage of a run."""
    return int(engine.config.deepspeed.get("zero_optimization", {}).get("stage", 0))


def _prune(store: Store, run: str, keep: int) -> None:
    committed = [
        name for name in store.names(folder(run)) if store.exists(f"{folder(run)}/{name}/manifest.json")
    ]
    for name in committed[:-keep]:
        store.delete(f"{folder(run)}/{name}")


def _damage(store: Store, place: str, name: str, fault: str) -> str:
    return (
        f"the checkpoint {store.url}/{place} is damaged: {name} {fault}; "
        f"delete its folder to go on from the one before"
    )
