"""The data stream beside its limit and its peers: the same pictures, from the same S3 server, in one run.

Every pass has a process of its own, and the contenders take turns. CPU time is that of the process and
all below it (Ray's, a DataLoader's workers); the S3 server's is not in it, but it runs on the same cores.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from benchmarks import peers_environment, pictures, stream_measure, tables

pytestmark = pytest.mark.bench

IMAGES = int(os.environ.get("GENLOOM_BENCH_IMAGES", "6000"))
ROUNDS = int(os.environ.get("GENLOOM_BENCH_ROUNDS", "3"))
PASS_TIMEOUT_S = 1800
OURS = (
    "ours, no Ray",
    "ours on Ray Data, 1 consumer",
    "ours on Ray Data, 2 consumers",
    "limit: pyarrow scan, 1 process",
    "limit: pyarrow scan, 2 processes",
    "bare Ray Data, 1 consumer",
)
PEERS = {
    "files": "torch DataLoader over files, 2 workers",
    "mosaic": "mosaicml-streaming, 2 workers",
    "litdata": "litdata, 2 workers",
    "webdataset": "webdataset, 2 workers",
}
LIMIT = "limit: pyarrow scan, 1 process"
IN_ORDER = ("limit", "bare Ray Data")
"""What these names begin with is read unshuffled."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pictures as files."""
    return pictures.write_pictures(tmp_path_factory.mktemp("pictures"), IMAGES)


@pytest.fixture(scope="module")
def job(s3, folder):
    """The pictures as a dataset in the S3 store."""
    from genloom_platform.data.imports import import_dataset
    from genloom_platform.store import Store

    store = f"{s3}/stream"
    settings = {"clean": {"exact_duplicates": False}}
    manifest = import_dataset(
        Store(store), "imagefolder", str(folder), "pictures", settings, on_cluster=False
    )
    assert manifest.splits == {"train": IMAGES}
    return json.dumps({"store": store, "dataset": manifest.full_name})


def test_stream_beside_its_limit_and_its_peers(s3, folder, job):
    environment = peers_environment.ready()
    peers = {peer: name for peer, name in PEERS.items() if peer not in environment.faults}
    faults = {PEERS[peer]: [fault] for peer, fault in environment.faults.items()}
    peers_job = _prepare_peers(s3, folder, environment.python, peers, faults)
    passes: dict[str, list[dict[str, Any]]] = {}
    for _ in range(ROUNDS):
        for name in OURS:
            passes.setdefault(name, []).append(_ours(name, job))
        for peer, name in peers.items():
            try:
                figures = _run(environment.python, "stream_peers", "measure", peer, peers_job)
                passes.setdefault(name, []).append(figures)
            except RuntimeError as error:
                faults.setdefault(name, []).append(str(error))
    size_bytes = sum(file.stat().st_size for file in folder.rglob("*.png")) / IMAGES
    _show(passes, faults, size_bytes, environment)


def test_resuming_late_in_an_epoch_beside_starting_it(job):
    found = _ours("resume", job)
    rows = [
        (way, f"{each['start']:.2f}", f"{each['late']:.2f}", f"{each['late'] / each['start']:.2f}")
        for way, each in found.items()
    ]
    tables.show(
        f"Seconds to the first batch of {stream_measure.BATCH}, {IMAGES:,} pictures",
        ("ours", "from step 0", "from 90 % of an epoch", "ratio"),
        rows,
        "Medians of 5 openings each, in turns, after one that is not counted; the store, the manifest "
        "and the order are opened anew.",
    )


def _prepare_peers(
    s3: str, folder: Path, python: str, peers: dict[str, str], faults: dict[str, list[str]]
) -> str:
    """Bring the pictures into each peer's format; returns the peers' job, and leaves out who cannot."""
    bucket, _, prefix = s3.removeprefix("s3://").partition("/")
    where = {"folder": str(folder), "bucket": bucket, "prefix": f"{prefix}/peers"}
    peers_job = json.dumps(where)
    for peer in list(peers):
        try:
            _run(python, "stream_peers", "prepare", peer, peers_job)
        except RuntimeError as error:
            faults[peers.pop(peer)] = [str(error)]
    return peers_job


def _ours(*words: str) -> dict[str, Any]:
    return _run(sys.executable, "stream_ours", *words)


def _run(python: str, module: str, *words: str) -> dict[str, Any]:
    """What a process answers; raises RuntimeError with the last that it says where it fails."""
    try:
        done = subprocess.run(
            [python, "-m", f"benchmarks.{module}", *words],
            capture_output=True,
            text=True,
            timeout=PASS_TIMEOUT_S,
            # Other servers than Amazon's refuse the trailing checksums that boto3 adds by default.
            env={**os.environ, "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"},
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {PASS_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip() or "no message").splitlines()[-1][:200])
    mark = stream_measure.ANSWER
    (answer,) = [line for line in done.stdout.splitlines() if line.startswith(mark)]
    return json.loads(answer.removeprefix(mark))


def _show(
    passes: Mapping[str, list[dict[str, Any]]],
    faults: Mapping[str, list[str]],
    size_bytes: float,
    environment: peers_environment.Environment,
) -> None:
    limit = statistics.median(_rates(passes[LIMIT]))
    rows = [
        _row(name, passes.get(name, []), faults.get(name, []), limit, size_bytes)
        for name in (*OURS, *PEERS.values())
    ]
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    tables.show(
        f"{IMAGES:,} pictures of {pictures.SIDE}×{pictures.SIDE} (PNG, {size_bytes / 1e3:.1f} kB each) from S3, "
        f"batches of {stream_measure.BATCH}",
        (
            *("", "shuffled", "rows/s", "lowest – highest", "of the limit", "MB/s"),
            *("CPU s a 1,000 rows", "first batch s", "rows/s with it", "rows"),
        ),
        rows,
        f"Medians of {ROUNDS} passes, in turns, each in a process of its own. rows/s: after the first batch, "
        "which flatters whoever works ahead of it; "
        "CPU: all of the pass, children included, without the S3 server; the clock starts when the libraries "
        "are imported and Ray is up.",
        f"Peers: {versions}.",
    )


def _rates(passes: list[dict[str, Any]]) -> list[float]:
    return [each["rows_after"] / each["after_s"] for each in passes]


def _row(
    name: str, passes: list[dict[str, Any]], faults: list[str], limit: float, size_bytes: float
) -> tuple[str, ...]:
    """A contender's line, with what went wrong below its name."""
    said = f"{name}\n  {len(faults)} failed: {faults[-1]}" if faults else name
    if not passes:
        return said, *["—"] * 9
    rates = _rates(passes)
    rate = statistics.median(rates)
    cpu_s = statistics.median(each["cpu_s"] / each["rows"] * 1000 for each in passes)
    return (
        said,
        "no" if name.startswith(IN_ORDER) else "yes",
        f"{rate:,.0f}",
        f"{min(rates):,.0f} – {max(rates):,.0f}",
        f"{rate / limit:.2f}",
        f"{rate * size_bytes / 1e6:.1f}",
        f"{cpu_s:.2f}",
        f"{statistics.median(each['first_s'] for each in passes):.2f}",
        f"{statistics.median(each['rows'] / each['whole_s'] for each in passes):,.0f}",
        f"{passes[0]['rows']:,}",
    )
