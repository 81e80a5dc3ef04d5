"""More workers than this machine has cores: told before Ray starts, and refused where its memory is too small."""

from genloom.errors import RequestError
from genloom_platform.config import RunConfig
from genloom_platform.data.manifest import Manifest
from genloom_platform.models.start import Start
from genloom_platform.train.layout import ModelSize, layout_of
from genloom_platform.train.memory import footprint
from genloom_platform.units import size as shown

PROCESS_BYTES = 250e6
"""What a worker's process takes at least, with nothing of a model: of pages that no other process shares, 282 MB
were measured, for Python, Ray, torch and DeepSpeed."""


def warning(config: RunConfig, cores: int) -> str:
    """That a run's workers share this machine's cores, in words; empty where each has its own."""
    scale = config.scale
    if scale.most * scale.cpus_per_worker <= cores:
        return ""
    asked = f"{scale.most * scale.cpus_per_worker:g} CPUs ({scale.most} × {scale.cpus_per_worker:g})"
    return (
        f"the workers ask for {asked}, and share the {cores} cores of this machine: they take long to start, and "
        f"together are no faster than one on each core; name a cluster in RAY_ADDRESS for more"
    )


def require_memory(
    config: RunConfig, manifest: Manifest, start: Start | None, machine_bytes: float
) -> None:
    """Refuse a run whose workers cannot all be in this machine's memory, whatever their activations take.

    Raises:
        RequestError: They cannot.
    """
    from genloom_platform.train.sizes import size_of

    trainable = config.trainable()
    size = size_of(config, trainable, manifest.facts_for(trainable), start)
    fault = too_much(config, size, machine_bytes)
    if fault:
        raise RequestError(fault)


def too_much(config: RunConfig, size: ModelSize, machine_bytes: float) -> str:
    """That the fewest workers of a run need more memory than there is, in numbers; empty where they do not."""
    workers = config.scale.fewest
    model = _of_the_model(config, size, workers)
    if workers * (PROCESS_BYTES + model) <= machine_bytes:
        return ""
    fewer = next(
        (
            n
            for n in range(workers - 1, 0, -1)
            if n * (PROCESS_BYTES + _of_the_model(config, size, n)) <= machine_bytes
            and config.global_batch % (n * config.accumulate) == 0
        ),
        None,
    )
    remedy = f"give scale.workers={fewer}, or" if fewer else "give a smaller model, or"
    return (
        f"{workers} workers need {shown(workers * (PROCESS_BYTES + model))} of memory at least, each "
        f"{shown(model)} for the model and {shown(PROCESS_BYTES)} for its process, and this machine has "
        f"{shown(machine_bytes)}; {remedy} name a cluster in RAY_ADDRESS; --dry-run shows more"
    )


def _of_the_model(config: RunConfig, size: ModelSize, workers: int) -> float:
    gpu = config.scale.gpus_per_worker > 0
    needed = footprint(size, layout_of(config, workers, gpu=gpu))
    return (needed.host if gpu else needed.both).total
