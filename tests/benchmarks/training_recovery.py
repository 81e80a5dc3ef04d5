"""How long a run stands still when one of its workers is killed: ours on Ray, and Ray Train bare."""

import os
import random
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from benchmarks import tables
from benchmarks.training_contenders import RANKS

KILLS = int(os.environ.get("GENLOOM_BENCH_KILLS", "2"))
EVERY = 20
"""Steps between two checkpoints."""
BETWEEN = 45
"""Steps from one kill to the next."""
STEPS = 100_000
WAIT_S = 180.0
DEFAULTS = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2.0", "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}
"""Ray Train's own; the processes of a cluster that Genloom connects to have others."""


def workers() -> list[int]:
    """The processes of Ray Train's workers on this process's own cluster."""
    below = psutil.Process().children(recursive=True)
    return [each.pid for each in below if "RayTrainWorker" in " ".join(_words(each))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def ours(store: Any, chance: random.Random) -> list[float]:
    """Seconds from each kill to the next report of a step, as the driver of a run sees it."""
    from genloom_platform.config import read_values, resolve
    from genloom_platform.train import launch, runs

    config = resolve(
        read_values("example-slow", [
            f"steps={STEPS}", "data=digits", "global_batch=24", "evaluate=false", f"scale.workers={RANKS}",
            f"checkpoint.every={EVERY}", "deepspeed.zero_optimization.stage=1",
        ]), store,
    )  # fmt: skip
    seconds: list[float] = []
    names: list[str] = []
    state = {"due": BETWEEN, "killed_at": 0.0, "again": False}

    def on_report(report: Any) -> None:
        if state["again"]:
            seconds.append(time.monotonic() - state["killed_at"])
            state.update(due=report.step + BETWEEN, killed_at=0.0, again=False)
        if len(seconds) == KILLS:
            runs.ask_to_stop(store, names[0])
            return
        if report.step >= state["due"] and not state["killed_at"]:
            state["killed_at"] = time.monotonic()
            os.kill(chance.choice(workers()), signal.SIGKILL)

    def on_event(message: str) -> None:
        state["again"] = state["again"] or message.startswith("goes on")

    launch.train(
        store, config, on_start=lambda run, step: names.append(run.name), on_report=on_report,
        on_event=on_event,
    )  # fmt: skip
    return seconds


def bare(kind: str, chance: random.Random) -> list[float]:
    """The same of Ray Train's own recovery, by the clock of its workers."""
    os.environ.update(DEFAULTS)
    with tempfile.TemporaryDirectory() as folder:
        stamps, stop = Path(folder) / "stamps", Path(folder) / "stop"
        stamps.touch()
        thread = threading.Thread(target=_fit, args=(kind, folder), daemon=True)
        thread.start()
        seconds: list[float] = []
        due = BETWEEN
        for _ in range(KILLS):
            _, step, _ = _stamp(stamps, lambda pid, step, due=due: step >= due)
            killed_at, before = time.time(), workers()
            os.kill(chance.choice(before), signal.SIGKILL)
            _, step, at = _stamp(stamps, lambda pid, step, before=before: pid not in before, killed_at)
            seconds.append(at - killed_at)
            due = step + BETWEEN
        stop.touch()
        thread.join(WAIT_S)
    for name in DEFAULTS:
        del os.environ[name]
    return seconds


def _stamp(stamps: Path, fits: Any, after: float = 0) -> tuple[int, int, float]:
    """The first stamp since a time that fits: process, step, time."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        lines = stamps.read_text().rpartition("\n")[0].splitlines()
        found = [(int(pid), int(step), float(at)) for pid, step, at in map(str.split, lines)]
        fitting = [each for each in found if each[2] > after and fits(each[0], each[1])]
        if fitting:
            return fitting[0]
        time.sleep(0.02)
    raise TimeoutError(f"Ray Train came to no such step in {WAIT_S:.0f} s")


def _fit(kind: str, folder: str) -> None:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    TorchTrainer(
        _train,
        train_loop_config={"kind": kind, "folder": folder},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=RANKS),
        run_config=ray.train.RunConfig(
            storage_path=folder, failure_config=ray.train.FailureConfig(max_failures=3)
        ),
    ).fit()


def _train(config: dict[str, Any]) -> None:
    """The loop of Ray's guide, with torch.save and a model as small as the example's."""
    import ray.train
    import ray.train.torch
    import torch
    from examples import Slow

    model = Slow().build(None)
    optimizer = torch.optim.AdamW(model.parameters())
    rank, folder = ray.train.get_context().get_world_rank(), Path(config["folder"])
    start = 0
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as place:
            saved = torch.load(Path(place) / "state.pt")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
    if config["kind"] == "DeepSpeed":
        update, wrapped = _deepspeed(model, optimizer)
    else:
        wrapped = ray.train.torch.prepare_model(model)

        def update(loss: torch.Tensor) -> None:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    x = torch.rand(24 // RANKS, 64)
    for step in range(start + 1, STEPS):
        time.sleep(0.05)  # as the example's loss does
        update((wrapped(x) - x).square().mean())
        if rank == 0:
            with (folder / "stamps").open("a") as file:
                file.write(f"{os.getpid()} {step} {time.time()}\n")
        if step % EVERY:
            continue
        with tempfile.TemporaryDirectory() as place:
            saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(saved, Path(place) / "state.pt")
            made = ray.train.Checkpoint.from_directory(place) if rank == 0 else None
            ray.train.report({}, checkpoint=made)
        if (folder / "stop").exists():
            return


def _deepspeed(model: Any, optimizer: Any) -> tuple[Any, Any]:
    """DeepSpeed by hand at stage 0, so that torch.save has all there is."""
    import deepspeed
    import ray.train

    os.environ["LOCAL_SIZE"] = str(ray.train.get_context().get_local_world_size())
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    settings = {
        "train_batch_size": 24,
        "train_micro_batch_size_per_gpu": 24 // RANKS,
        "gradient_clipping": 0.0,
    }
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=settings, dist_init_required=False
    )

    def update(loss: Any) -> None:
        engine.backward(loss)
        engine.step()

    return update, engine


def show(store: Any) -> None:
    """Measure and print; the cluster is there."""
    chance = random.Random(0)
    found = {
        "ours on Ray": ours(store, chance),
        "Ray Train bare, DDP, torch.save": bare("DDP", chance),
        "Ray Train bare, DeepSpeed by hand, torch.save": bare("DeepSpeed", chance),
    }
    mine = statistics.median(found["ours on Ray"])
    rows = [
        (name, f"{statistics.median(each):.1f}", ", ".join(f"{s:.1f}" for s in each),
         f"{mine / statistics.median(each):.2f}")
        for name, each in found.items()
    ]  # fmt: skip
    tables.show(
        "from kill -9 of a worker to the next training step",
        ("", "s", "each", "ours / it"),
        rows,
        f"medians of {KILLS} kills; a model of 4,000 parameters, {RANKS} workers, a checkpoint every {EVERY} "
        "steps; ours: until the driver hears of the step; bare: until the step is done",
    )
