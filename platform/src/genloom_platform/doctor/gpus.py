"""GPUs: whether torch sees those that the machine has, by which driver, CUDA and NCCL, and whether NCCL works."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genloom_platform.doctor.findings import Finding, finding

PROBE_S = 180
"""For CUDA's first start on a machine with many GPUs."""
PROBE = """
import json, torch
told = {"torch": torch.__version__, "CUDA": torch.version.cuda or "", "NCCL": "", "count": 0, "fault": ""}
try:
    told["count"] = torch.cuda.device_count()
    told["names"] = [torch.cuda.get_device_name(n) for n in range(told["count"])]
    if told["count"]:
        told["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))
        each = [torch.ones(1024, device=f"cuda:{n}") for n in range(told["count"])]
        torch.cuda.nccl.all_reduce(each)
        sums = {float(one.sum()) for one in each}
        if sums != {1024.0 * told["count"]}:
            told["fault"] = f"an all-reduce of ones over NCCL gave {sums}"
except Exception as error:
    told["fault"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
print(json.dumps(told))
"""
"""Runs in a process of its own: Ray hides GPUs from workers that ask for none, and a driver may end a process."""


def look() -> tuple[Finding, int, dict[str, str]]:
    """Whether torch can use this machine's GPUs, also together; their number; the versions of CUDA and NCCL."""
    try:
        names, driver = _listed()
    except (OSError, subprocess.SubprocessError) as error:
        seen = f"nvidia-smi fails: {_last_line(error)}"
        return (
            finding("GPUs", False, seen, "repair or install NVIDIA's driver; dmesg tells more"),
            0,
            {},
        )
    if not names:
        return finding("GPUs", True, "none", ""), 0, {}
    told = _told()
    versions = {name: told[name] for name in ("CUDA", "NCCL") if told.get(name)}
    return _verdict(names, driver, told), len(names), versions


def _verdict(names: Sequence[str], driver: str, told: Mapping[str, Any]) -> Finding:
    seen = f"{len(names)} ({', '.join(sorted(set(names)))}), driver {driver}"
    fault = told["fault"]
    if "out of memory" in fault:
        return finding("GPUs", True, f"{seen}; their memory is in use, so NCCL was not tried", "")
    if fault:
        remedy = "nvidia-smi and dmesg tell of the driver; NCCL_DEBUG=INFO tells what NCCL misses"
        return finding("GPUs", False, f"{seen}; {fault}", remedy)
    if told["count"] < len(names):
        build = f"CUDA {told['CUDA']}" if told["CUDA"] else "no CUDA"
        remedy = f"install a build of torch that the driver {driver} carries, or a newer driver"
        return finding(
            "GPUs", False, f"{seen}; torch {told['torch']} has {build} and sees {told['count']}", remedy
        )
    return finding("GPUs", True, f"{seen}, CUDA {told['CUDA']}; NCCL {told['NCCL']} sums over them", "")


def _listed() -> tuple[list[str], str]:
    """The names of the GPUs and the driver's version, by nvidia-smi; none where that is not installed."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        if Path("/proc/driver/nvidia/version").exists():
            raise FileNotFoundError("the driver is loaded, and its tool is not on the path")
        return [], ""
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=PROBE_S, check=True)  # noqa: S603
    rows = [line.rsplit(", ", 1) for line in done.stdout.splitlines() if line.strip()]
    return [name for name, _ in rows], rows[0][1] if rows else ""


def _told() -> dict[str, Any]:
    hidden = ("CUDA_VISIBLE_DEVICES",)
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    argv = [sys.executable, "-c", PROBE]
    told: dict[str, Any] = {"torch": "", "CUDA": "", "NCCL": "", "count": 0, "fault": ""}
    try:
        done = subprocess.run(  # noqa: S603
            argv, capture_output=True, text=True, timeout=PROBE_S, check=True, env=environment
        )
    except subprocess.SubprocessError as error:
        return {**told, "fault": f"trying torch on them ended badly: {_last_line(error)}"}
    return {**told, **json.loads(done.stdout.splitlines()[-1])}


def _last_line(error: Exception) -> str:
    said = (
        f"{getattr(error, 'stderr', None) or ''}".strip()
        or f"{getattr(error, 'stdout', None) or ''}".strip()
    )
    return (said or str(error)).splitlines()[-1]
