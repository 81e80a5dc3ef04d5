"""The conformance kit's rules that need training: the platform's half of `genloom.testing`.

The SDK finds `check_training` as the entry point "conformance" in the group "genloom.platforms".
Training itself is `trial.py`, in processes of its own, on this machine's processors; here its
results are judged.
"""

import datetime
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import genloom
from genloom.testing import Finding, Outcome
from genloom_platform.data import encoding, shards
from genloom_platform.data.manifest import Manifest, Provenance, Shard, digest_of, folder
from genloom_platform.plugins.trial import STAGES, WORLDS, Job, Stage, Subject, results
from genloom_platform.store import Store

TRIAL = "genloom_platform.plugins.trial"
CHUNK_ROWS = 256
DATASET = "examples"
MAX_ROWS = 512
LIMIT_S = 600
TOLERANCE = 1e-4
"""How far losses may be apart that differ by rounding alone, relative to the largest of the run."""

TRAINS = (
    "training",
    "it trains on one worker and on two, at ZeRO stages 1, 2 and 3, with finite losses",
    "mend what the message names; the log has the whole story. Where ZeRO-3 alone fails: it keeps a "
    "module's weights whole only while its forward runs, so read them there and not in the loss",
)
STAGES_AGREE = (
    "ZeRO stages agree",
    "losses are the same at ZeRO stages 1, 2 and 3",
    "change no parameter in a loss (no .data, no copy_): what the loss must change is a buffer",
)
WORKERS_AGREE = (
    "workers agree",
    "losses are the same on one worker and on two, where the loss draws no random numbers",
    "give each example its cost and take the mean over the batch",
)
BUFFERS_AGREE = (
    "buffers agree",
    "buffers are the same on all workers after training",
    "register_buffer(…, persistent=True) for what the loss changes: the platform keeps those equal",
)
RESUMES = (
    "resumes exactly",
    "a run that goes on from a checkpoint has the losses of one that never stopped, to the last bit",
    "keep all that the loss changes in parameters and buffers of the model, and draw from torch alone",
)


def check_training(
    trainable: genloom.Trainable,
    data: Any,
    rows: Sequence[Mapping[str, Any]],
    incomparable: str = "",
) -> list[Finding]:
    """Train a few steps on one and two workers, and judge what came of it.

    Args:
        trainable: The configured generator or predictor. Its class must be importable, or stand at the
            top of a file.
        data: The dataset's facts, as its own `Data`.
        rows: The dataset; the first 512 rows are used.
        incomparable: Why one and two workers may have different losses; empty where they must not.
    """
    main = getattr(sys.modules["__main__"], "__spec__", None)
    if main and main.name == TRIAL:
        return [_finding(TRAINS, "not run", "this is a worker of the kit itself")]
    cls = type(trainable)
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None or "<locals>" in cls.__qualname__:
        why = f"{cls.__name__} is not at the top of a file, so no other process can import it; move it there"
        return [_finding(TRAINS, "not run", why)]
    subject = Subject(
        module=cls.__module__,
        file=os.path.realpath(file),
        qualname=cls.__qualname__,
        config=trainable.model_dump(mode="json"),
    )
    with tempfile.TemporaryDirectory(prefix="genloom-check-") as scratch:
        _write_dataset(Store(scratch), data, rows[:MAX_ROWS])
        job = Job(subject=subject, dataset=DATASET, folder=scratch, path=tuple(sys.path))
        (Path(scratch) / "job.json").write_text(job.model_dump_json())
        log, ending = _run(Path(scratch) / "job.json")
        findings = judge(results(scratch), incomparable, ending, log)
    if findings[0].outcome == "passed":
        log.unlink()  # only where training failed does it say more than the findings
    return findings


def judge(found: Sequence[Stage], incomparable: str, ending: str, log: Path) -> list[Finding]:
    """The findings on what the workers noted.

    Args:
        found: Their results.
        incomparable: As for `check_training`.
        ending: How the trial ended, where it did not end well.
        log: What it printed.
    """
    training = _trains(found, ending, log)
    if training.outcome == "failed":
        why = f"needs {TRAINS[0]!r} to pass first"
        others = (STAGES_AGREE, WORKERS_AGREE, BUFFERS_AGREE, RESUMES)
        return [training, *(_finding(rule, "not run", why) for rule in others)]
    by = {(stage.world, stage.stage): stage for stage in found}
    workers = (
        _finding(WORKERS_AGREE, "not run", incomparable)
        if incomparable
        else _agree(WORKERS_AGREE, by[1, 1], [by[2, 1]])
    )
    stages = [
        _agree(STAGES_AGREE, by[world, 1], [by[world, s] for s in STAGES[1:]]) for world in WORLDS
    ]
    broken = [finding for finding in stages if finding.outcome == "failed"]
    return [training, (broken or stages)[0], workers, _buffers(found), _resumes(found)]


def _trains(found: Sequence[Stage], ending: str, log: Path) -> Finding:
    for stage in found:
        if stage.error:
            return _finding(TRAINS, "failed", f"{_name(stage)}: {stage.error}; log: {log}")
    if ending or len(found) < len(STAGES) * len(WORLDS):
        return _finding(TRAINS, "failed", f"{ending or 'a worker ended early'}; log: {log}")
    for stage in found:
        for step, losses in enumerate(stage.losses, 1):
            for name, value in losses.items():
                if not math.isfinite(value):
                    return _finding(
                        TRAINS, "failed", f"{_name(stage)}: {name!r} is {value} at step {step}"
                    )
    first, last = (
        {name: f"{value:.4g}" for name, value in found[0].losses[place].items()} for place in (0, -1)
    )
    steps = ", ".join(f"{name} {first[name]} → {last[name]}" for name in first)
    return _finding(TRAINS, "passed", f"{len(found)} times {len(found[0].losses)} steps: {steps}")


def _agree(rule: tuple[str, str, str], one: Stage, others: Sequence[Stage]) -> Finding:
    """Whether several trainings had the same losses, but for rounding."""
    largest = 0.0
    for other in others:
        for name in one.losses[0]:
            ours, theirs = ([step[name] for step in stage.losses] for stage in (one, other))
            scale = max(map(abs, [*ours, *theirs, 0.1]))
            for step, (a, b) in enumerate(zip(ours, theirs, strict=True), 1):
                largest = max(largest, abs(a - b) / scale)
                if abs(a - b) > TOLERANCE * scale:
                    seen = (
                        f"{name!r} at step {step}: {a:.7g} on {_name(one)}, {b:.7g} on {_name(other)}"
                    )
                    return _finding(rule, "failed", seen)
    return _finding(rule, "passed", f"within {largest:.1g}")


def _buffers(found: Sequence[Stage]) -> Finding:
    for stage in found:
        if stage.unequal:
            seen = f"on {_name(stage)}, these differ: {', '.join(stage.unequal)}"
            return _finding(BUFFERS_AGREE, "failed", seen)
    return _finding(BUFFERS_AGREE, "passed", "")


def _resumes(found: Sequence[Stage]) -> Finding:
    for stage in found:
        whole = stage.losses[-len(stage.resumed) :]
        for one, other in zip(whole, stage.resumed, strict=True):
            for name, value in one.items():
                if value != other[name]:
                    seen = (
                        f"{name!r} on {_name(stage)}: {value!r} without a stop, {other[name]!r} resumed"
                    )
                    return _finding(RESUMES, "failed", seen)
    return _finding(RESUMES, "passed", "")


def _name(stage: Stage) -> str:
    return f"{stage.world} worker{'s' if stage.world > 1 else ''} at ZeRO-{stage.stage}"


def _finding(rule: tuple[str, str, str], outcome: Outcome, seen: str) -> Finding:
    name, says, remedy = rule
    return Finding(name, outcome, seen, says, remedy)


def _run(job: Path) -> tuple[Path, str]:
    """Run the trial; returns its log and how it ended, where it did not end well."""
    environment = {
        **os.environ,
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",  # a context of the parent's could not be used after the fork
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }
    with tempfile.NamedTemporaryFile(prefix="genloom-check-", suffix=".log", delete=False) as log:
        command = [sys.executable, "-m", TRIAL, str(job)]
        try:
            done = subprocess.run(  # noqa: S603 - our own module
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=LIMIT_S
            )
        except subprocess.TimeoutExpired:
            return Path(log.name), f"training took more than {LIMIT_S} s"
    return Path(log.name), f"training ended with status {done.returncode}" if done.returncode else ""


def _write_dataset(store: Store, data: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows as a dataset, so that they are read as in any run."""
    facts = {name: getattr(data, name) for name in type(data).model_fields}
    columns = {
        name: column
        for name, column in facts.items()
        if column is not None and all(name in row for row in rows)
    }
    encoded = {
        name: [encoding.encode(column, row[name]) for row in rows] for name, column in columns.items()
    }
    keys = [f"rows/{number}" for number in range(len(rows))]
    table = pa.table({**encoded, encoding.KEY: keys}, schema=encoding.arrow_schema(columns))
    size_bytes, sha256 = shards.write(
        store, f"{folder(DATASET)}/rows/train-00000.parquet", table, CHUNK_ROWS
    )
    shard = Shard(
        path="rows/train-00000.parquet",
        split="train",
        chunks=tuple(min(CHUNK_ROWS, len(rows) - at) for at in range(0, len(rows), CHUNK_ROWS)),
        size_bytes=size_bytes,
        sha256=sha256,
    )
    manifest = Manifest(
        name=DATASET,
        digest=digest_of(columns, (shard,)),
        columns=columns,
        shards=(shard,),
        provenance=Provenance(format="rows", source="genloom.testing", importer="genloom.testing"),
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    store.write(f"{folder(DATASET)}/{manifest.version}.json", manifest.model_dump_json().encode())
