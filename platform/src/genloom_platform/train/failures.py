"""What can go wrong in training, as errors that a worker raises and the driver tells apart."""

from genloom.errors import TrainingError


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
