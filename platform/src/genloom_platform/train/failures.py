"""What can go wrong in training, as errors that a worker raises and the driver tells apart."""

from genloom.errors import TrainingError

SHORT = ("can't allocate memory", "not enough memory")
"""What torch says in a RuntimeError where a CPU has no memory left."""


class NonFiniteLoss(TrainingError):
    """A loss was NaN or infinite."""

    def __init__(self, objective: str, value: str, step: int) -> None:
        super().__init__(
            f"the loss {objective!r} was {value} at step {step:,}; lower the learning rate, clip gradients "
            f"(clip=1), or let the run pass such steps over (recovery.nan=skip or rollback)"
        )
        self.objective, self.value, self.step = objective, value, step

    def __reduce__(self) -> tuple[type["NonFiniteLoss"], tuple[str, str, int]]:
        return NonFiniteLoss, (self.objective, self.value, self.step)


class DamagedCheckpoint(TrainingError):
    """A checkpoint is not what was saved."""

    def __init__(self, step: int, why: str) -> None:
        super().__init__(f"the checkpoint of step {step:,} is damaged: {why}")
        self.step, self.why = step, why

    def __reduce__(self) -> tuple[type["DamagedCheckpoint"], tuple[int, str]]:
        return DamagedCheckpoint, (self.step, self.why)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on a GPU, a CPU or a node."""
    import ray.exceptions
    import torch

    kinds = (MemoryError, torch.OutOfMemoryError, ray.exceptions.OutOfMemoryError)
    said = str(error).lower()
    return isinstance(error, kinds) or (
        isinstance(error, RuntimeError) and any(words in said for words in SHORT)
    )


def line(error: BaseException) -> str:
    """The first line of what an error says; its kind where it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip()
