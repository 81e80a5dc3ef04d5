"""Importing many small pictures: rows a second, and whether memory stays bounded; then an interrupted import.

Memory is what `psutil` calls USS (unique to the process): of the driver, and the greatest of any worker.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from benchmarks import pictures, tables

from genloom_platform.store import Store

pytestmark = pytest.mark.bench

IMAGES = int(os.environ.get("GENLOOM_BENCH_IMPORT", "100000"))
EVERY_S = 0.5


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A quarter of the pictures, and all of them."""
    return {
        count: pictures.write_pictures(tmp_path_factory.mktemp(f"pictures-{count}"), count)
        for count in (IMAGES // 4, IMAGES)
    }


def start(folder, store, name):
    command = [sys.executable, str(Path(__file__).with_name("import_run.py")), str(folder), store, name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def watched(process):
    """Seconds until a process ended, its peak, and the peak of any of Ray's workers, in MB."""
    started = time.monotonic()
    driver = worker = 0
    while process.poll() is None:
        root = psutil.Process(process.pid)
        for each in [root, *root.children(recursive=True)]:
            try:
                size = each.memory_full_info().uss
                is_worker = each.name().startswith("ray::")
            except psutil.Error:
                continue
            if each == root:
                driver = max(driver, size)
            elif is_worker:
                worker = max(worker, size)
        time.sleep(EVERY_S)
    return time.monotonic() - started, driver / 1e6, worker / 1e6


def records(store, name):
    folder = Store(store)
    return {
        record
        for place in folder.names(f"datasets/{name}")
        if place.startswith("import-")
        for record in folder.names(f"datasets/{name}/{place}/parts")
        if record.endswith(".json")
    }


def test_memory_and_resume(folders, tmp_path):
    store = (tmp_path / "store").as_uri()
    lines = []
    for count, folder in folders.items():
        seconds, driver, worker = watched(start(folder, store, f"p{count}"))
        lines.append(
            (
                f"{count:,}",
                f"{count / seconds:,.0f}",
                f"{seconds:.0f}",
                f"{driver:.0f}",
                f"{worker:.0f}",
            )
        )
    tables.show(
        "importing 64 × 64 PNGs on a cluster of this machine (its start included)",
        ("pictures", "rows/s", "seconds", "driver peak MB", "greatest worker peak MB"),
        lines,
    )
    process = start(folders[IMAGES], store, "stopped")
    started = time.monotonic()
    wanted = -(-IMAGES // 2000) // 2
    while len(records(store, "stopped")) < wanted and process.poll() is None:
        time.sleep(EVERY_S)
    process.send_signal(signal.SIGINT)
    process.wait()
    interrupted_s, kept = time.monotonic() - started, records(store, "stopped")
    started = time.monotonic()
    resumed = start(folders[IMAGES], store, "stopped")
    print(resumed.communicate()[0].strip())
    tables.show(
        "an interrupted import",
        ("", "seconds"),
        (
            (
                f"until the interruption, {len(kept)} of {-(-IMAGES // 2000)} units done",
                f"{interrupted_s:.0f}",
            ),
            ("the rest", f"{time.monotonic() - started:.0f}"),
        ),
    )
