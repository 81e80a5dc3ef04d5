"""The environment that the peers live in, apart from ours: made once, kept in a cache folder."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(os.environ.get("GENLOOM_BENCH_PEERS") or Path.home() / ".cache/genloom-bench-peers")
TORCH = ["torch==2.13.0", "torch"]
"""The version of ours, and what is taken where there is none."""
SHARED = ["numpy<2.2", "pillow", "boto3"]
PACKAGES = {"mosaic": "mosaicml-streaming", "litdata": "litdata", "webdataset": "webdataset"}


@dataclass(frozen=True)
class Environment:
    """The peers' interpreter, and what became of each package."""

    python: str
    faults: dict[str, str]
    """Peer → why it is not there, in a few words."""
    versions: dict[str, str]


def ready() -> Environment:
    """The environment, made where it is missing: a few minutes, once."""
    record, python = FOLDER / "peers.json", str(FOLDER / "bin/python")
    if not record.exists():
        print(f"making the peers' environment in {FOLDER} (a few minutes, once)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
        for torch in TORCH:
            fault = _install(python, [torch, *SHARED])
            if not fault:
                break
        else:
            raise RuntimeError(f"cannot install {TORCH[-1]} and {SHARED} in {FOLDER}: {fault}")
        faults = {peer: _install(python, [package, *SHARED]) for peer, package in PACKAGES.items()}
        record.write_text(json.dumps({peer: fault for peer, fault in faults.items() if fault}))
    faults = json.loads(record.read_text())
    return Environment(python, faults, _versions(python))


def _install(python: str, packages: list[str]) -> str:
    """Install packages; returns why not, or nothing."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return (errors or done.stderr.splitlines() or ["pip failed"])[-1][:200]


def _versions(python: str) -> dict[str, str]:
    listing = [python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    found = json.loads(subprocess.run(listing, capture_output=True, text=True, check=True).stdout)
    wanted = {"torch", "numpy", "pillow", *PACKAGES.values()}
    return {each["name"]: each["version"] for each in found if each["name"] in wanted}
