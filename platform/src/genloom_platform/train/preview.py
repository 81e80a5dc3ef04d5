"""A look at a run before it starts: what it holds, whether it fits, how long it takes and what that costs.

Nothing is written, and no worker is started: the model's size is reckoned (`sizes.py`, `memory.py`), and its pace
and its activations are those of a short trial (`trial.py`).
"""

import os
from dataclasses import dataclass, replace

from pydantic import ValidationError

from genloom.errors import RequestError
from genloom_platform import cluster, profiles
from genloom_platform.config import RunConfig
from genloom_platform.data import manifest as manifests
from genloom_platform.data.stream import Stream, local_batches, to_batch
from genloom_platform.jobs import origin
from genloom_platform.models.start import Start, plan
from genloom_platform.profiles import Price
from genloom_platform.store import Store
from genloom_platform.train import advice
from genloom_platform.train.layout import STAGES, Layout, ModelSize, layout_of
from genloom_platform.train.memory import Memory, footprint
from genloom_platform.train.sizes import size_of
from genloom_platform.train.trial import Trial, try_out


@dataclass(frozen=True)
class Room:
    """The memory that a worker may take."""

    size_bytes: float
    of: str
    """What it is a part of, in words."""


@dataclass(frozen=True)
class Fit:
    """What a worker needs in one layout."""

    layout: Layout
    chosen: bool
    """Whether the run has this one."""
    memory: Memory
    """Of its GPU; where it has none, all that it needs."""
    process_bytes: float
    """What its process, or the GPU's driver, takes beside, as the trial's did."""
    host_bytes: float
    """What a worker with a GPU needs of its node's memory."""
    fits: bool | None
    """Whether there is room for it; None where that was not seen."""

    @property
    def total_bytes(self) -> float:
        """All of it."""
        return self.memory.total + self.process_bytes


@dataclass(frozen=True)
class Pace:
    """How long the run takes, as the trial went: without communication, checkpoints and evaluation."""

    workers: int
    step_s: float
    data_s: float
    """In which one CPU prepares a worker's share of a step."""
    rows_per_s: float
    run_s: float
    cost: Price | None
    """Of all workers, where the cluster that the trial ran on has a price."""


@dataclass(frozen=True)
class Preview:
    """What a run would be."""

    config: RunConfig
    size: ModelSize
    start: Start | None
    """What it starts with, where it is a finetune."""
    shapes: dict[str, str]
    """Of one worker's share of the first batch, by name."""
    workers: int
    """The fewest that the run may have: each then has the most to do."""
    trial: Trial
    room: Room | None
    """None where the trial did not come so far."""
    fits: tuple[Fit, ...]
    pace: Pace | None
    """None where no step was timed."""
    advice: str
    """What to lower, where it does not fit; empty where it does."""

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return self.size.parameters


def preview(store: Store, config: RunConfig) -> Preview:
    """Try a run out, and reckon what it needs.

    Raises:
        RequestError: The cluster is too small for it, or a finetune's parent or patterns do not fit.
        DataError: A shard is damaged, or a row cannot be prepared.
        PluginError: The objectives do not fit the model.
    """
    start = plan(store, config)
    manifest = manifests.load(store, config.data)
    trainable = config.trainable()
    stream = Stream(store, manifest, trainable, config.global_batch, config.seed)
    workers = config.scale.fewest
    batch = to_batch(trainable, next(local_batches(stream, 0, 1, 0, workers)))
    shapes = {
        name: f"{list(value.shape)} {value.dtype}" if hasattr(value, "shape") else type(value).__name__
        for name, value in batch.items()
    }
    size = size_of(config, trainable, stream.data, start)
    price = price_per_hour()
    trial = try_out(store.url, config, manifest.full_name, workers, start)
    room = room_of(config, trial)
    fits = tuple(fits_of(config, size, workers, trial, room))
    short = trial.out_of_memory or any(fit.chosen and fit.fits is False for fit in fits)
    return Preview(
        config=config,
        size=size,
        start=start,
        shapes=shapes,
        workers=workers,
        trial=trial,
        room=room,
        fits=fits,
        pace=pace_of(config, trial, price),
        advice=advice.to_lower_memory(config, size, workers) if short else "",
    )


def price_per_hour() -> Price | None:
    """What a worker of this process's cluster costs: as its job was told, or the profile that is chosen says.

    A cluster that this process starts itself costs nothing, whatever profile is chosen for others.

    Raises:
        RequestError: What the environment says is no price.
    """
    if told := os.environ.get(origin.PRICE):
        amount, _, currency = told.partition(" ")
        try:
            return Price.model_validate({"amount": amount, "currency": currency or "USD"})
        except ValidationError as error:
            raise RequestError(
                f"{origin.PRICE} = {told!r} is no price; give an amount and a currency, as in '2.5 EUR'"
            ) from error
    profile = profiles.chosen() if "RAY_ADDRESS" in os.environ else None
    return profile.price_per_hour if profile else None


def room_of(config: RunConfig, trial: Trial) -> Room | None:
    """The memory of a worker's GPU, or its part of the machine."""
    scale = config.scale
    if trial.gpu_bytes:
        part = min(1.0, scale.gpus_per_worker or 1.0)
        return Room(
            trial.gpu_bytes * part, trial.device if part == 1 else f"{part:g} of {trial.device}"
        )
    if scale.gpus_per_worker or not trial.machine_bytes:
        return None
    beside = workers_on_a_node(config)
    of = "the machine" if beside == 1 else f"a machine with {beside} workers"
    return Room(trial.machine_bytes / beside, of)


def workers_on_a_node(config: RunConfig) -> int:
    """How many of a run's workers share a machine, where they are packed as Ray packs them."""
    if "RAY_ADDRESS" not in os.environ:
        return config.scale.fewest
    scale = config.scale
    return min(scale.fewest, cluster.slots_of_a_node(scale.cpus_per_worker, scale.gpus_per_worker))


def fits_of(
    config: RunConfig, size: ModelSize, workers: int, trial: Trial, room: Room | None
) -> list[Fit]:
    """What a worker needs at each ZeRO stage, and with what is offloaded as the run asks for it."""
    gpu = trial.gpu_bytes > 0 or config.scale.gpus_per_worker > 0
    chosen = layout_of(config, workers, gpu=gpu)
    layouts = [layout_of(config, workers, gpu=gpu, stage=stage, offload=False) for stage in STAGES]
    with_offload = [layout_of(config, workers, gpu=gpu, stage=stage) for stage in STAGES]
    layouts += [layout for layout in with_offload if layout.offloads]
    activations = _activations(config, size, trial, gpu=gpu)
    alone = footprint(size, layout_of(config, 1, gpu=gpu))
    process = max(0.0, trial.resting_bytes - (0 if gpu else alone.at_rest))
    node = trial.machine_bytes / workers_on_a_node(config) if room else 0
    found: list[Fit] = []
    for layout in layouts:
        needed = footprint(size, layout, activations)
        memory, host = needed.both, Memory()
        if gpu:
            memory, host = needed.device, needed.host
        fit = Fit(
            layout=layout,
            chosen=layout == chosen,
            memory=memory,
            process_bytes=trial.context_bytes if gpu else process,
            host_bytes=host.total + process if gpu else 0,
            fits=None,
        )
        if room:
            fits = fit.total_bytes <= room.size_bytes and fit.host_bytes <= node
            fit = replace(fit, fits=fits)
        found.append(fit)
    return found


def _activations(config: RunConfig, size: ModelSize, trial: Trial, *, gpu: bool) -> float:
    """Bytes of activations: what the losses kept, or more where a backward pass needed more for a moment."""
    # A CPU's communication buffers count whole among what was allocated, though they are not filled.
    layouts = [layout_of(config, 1, gpu=each) for each in {gpu, True}]
    known = max(footprint(size, layout).passing for layout in layouts)
    return max(trial.activations_bytes, trial.step_bytes - known)


def pace_of(config: RunConfig, trial: Trial, price_per_hour: Price | None) -> Pace | None:
    """How long a run takes if all its steps are as those of the trial."""
    if not trial.steps_s:
        return None
    workers, run_s = config.scale.fewest, trial.step_s * config.steps
    rounds = max(objective.repeats for objective in config.trainable().objectives())
    return Pace(
        workers=workers,
        step_s=trial.step_s,
        data_s=trial.share_s,
        rows_per_s=rounds * config.global_batch / trial.step_s,
        run_s=run_s,
        cost=price_per_hour.times(workers * run_s / 3600) if price_per_hour else None,
    )
