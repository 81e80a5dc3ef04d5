"""The engine: one DeepSpeed engine for each objective, over the plain modules that it trains.

Losses call the plain module; the DeepSpeed engines own gradients, optimizers and their sharding.
That gives the same losses at every ZeRO stage, with double backward and with several networks,
and no generator has to know of DeepSpeed.
"""

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor, nn

import genloom
from genloom.errors import PluginError, TrainingError
from genloom_platform.config import RunConfig
from genloom_platform.train import optimizers
from genloom_platform.train.average import Average
from genloom_platform.train.parts import Part, parts_of, remaining_state

TAG = "state"
HELD = -1
"""Stands among the modules that use a parameter, for DeepSpeed not to release it."""

# DeepSpeed would compile a shared-memory all-reduce when it starts on a CPU: a minute and a compiler for what
# only its inference calls. There is no setting for it.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


class Engine:
    """A generator's model in training, on one rank."""

    def __init__(self, config: RunConfig, trainable: genloom.Trainable, data: Any) -> None:
        self.config, self.trainable = config, trainable
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(_seed(config.seed, "weights"))
        self.model = trainable.build(data).to(self.device)
        self.objectives = list(trainable.objectives())
        self.parts = parts_of(self.model, self.objectives)
        self.rounds = max(objective.repeats for objective in self.objectives)
        """Global batches that a step reads."""
        self._engines = {part.objective.name: self._start(part) for part in self.parts}
        self._buffers = [b for b in remaining_buffers(self.model) if b.numel()]
        self.average = Average(self.model, config.average) if config.average else None

    def step(self, number: int, batches: Sequence[genloom.Batch]) -> dict[str, Tensor]:
        """Train every objective once, on its share of the step's batches.

        Args:
            number: The step, from 0. Together with the run's seed and the rank it is all that the
                random numbers of the losses depend on, so a resumed run draws the same.
            batches: This rank's share of the step's global batches, `self.rounds` of them.

        Returns:
            Scalars of this rank, by name: each objective's loss and metrics, from its last repeat.
        """
        self.model.train()
        metrics: dict[str, Tensor] = {}
        for part in self.parts:
            for repeat, batch in enumerate(batches[-part.objective.repeats :]):
                name = part.objective.name
                torch.manual_seed(_seed(self.config.seed, f"{number}/{name}/{repeat}/{self.rank}"))
                metrics.update(self._update(part, batch))
        if self.average:
            self.average.update()
        return metrics

    def _update(self, part: Part, batch: genloom.Batch) -> dict[str, Tensor]:
        """One optimizer step of one objective."""
        engine = self._engines[part.objective.name]
        self._train_only(part)
        metrics: dict[str, Tensor] = {}
        for micro in split(batch, self.config.accumulate):
            # DeepSpeed clears this flag in engine.forward, which plain modules pass by; without it ZeRO-3 with
            # accumulation computes wrong gradients, silently.
            if hasattr(engine.optimizer, "clear_backward_seen_flag"):
                engine.optimizer.clear_backward_seen_flag()
            with whole_weights(self.model, enabled=part.objective.whole_weights):
                with self._autocast():
                    loss = part.objective.loss(self.model, self._place(micro))
                if not isinstance(loss, genloom.Loss):  # pyright: ignore[reportUnnecessaryIsInstance]
                    raise PluginError(
                        f"the objective {part.objective.name!r} returned {type(loss).__name__}; "
                        f"return genloom.Loss(value, metrics)"
                    )
                engine.backward(loss.value)
            engine.step()
            for name, value in self._named(part, loss).items():
                share = _scalar(name, value) / self.config.accumulate
                metrics[name] = metrics.get(name, torch.zeros(())) + share
        self._agree_on_buffers()
        return metrics

    def _named(self, part: Part, loss: genloom.Loss) -> dict[str, Tensor | float]:
        """A loss and its metrics by name: "loss" and "kl", or "critic" and "critic/penalty"."""
        name = part.objective.name
        prefix = f"{name}/" if len(self.parts) > 1 else ""
        return {name: loss.value, **{prefix + key: value for key, value in loss.metrics.items()}}

    def _train_only(self, part: Part) -> None:
        """Freeze all but one part, or the losses would leave gradients in the others."""
        if len(self.parts) == 1:
            return
        for other in self.parts:
            for parameter in other.parameters:
                parameter.requires_grad_(other is part)

    def _place(self, batch: genloom.Batch) -> genloom.Batch:
        return {
            name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }

    def _autocast(self) -> Any:
        # engine.forward would enter it, and plain modules do not pass there.
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.config.precision == "bf16"
        )

    def _agree_on_buffers(self) -> None:
        """Make buffers that a loss may change equal on all ranks: floats by their mean, others as on rank 0."""
        if self.world == 1 or not self._buffers:
            return
        floats = [b for b in self._buffers if b.is_floating_point()]
        if floats:
            flat = torch.cat([b.detach().reshape(-1).float() for b in floats])
            dist.all_reduce(flat)
            flat /= self.world
            for buffer, mean in zip(floats, flat.split([b.numel() for b in floats]), strict=True):
                buffer.copy_(mean.view_as(buffer))
        for buffer in self._buffers:
            if not buffer.is_floating_point():
                dist.broadcast(buffer, 0)

    def mean(self, steps: Sequence[Mapping[str, Tensor]]) -> list[dict[str, float]]:
        """The metrics of several steps as means over the ranks, by one all-reduce."""
        names = list(steps[0])
        table = torch.stack([torch.stack([step[name] for name in names]) for step in steps])
        dist.all_reduce(table)
        return [dict(zip(names, row, strict=True)) for row in (table / self.world).tolist()]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; the same answer on all."""
        vote = torch.tensor(float(flag))
        dist.all_reduce(vote)
        return vote.item() > 0

    def save(self, folder: Path) -> None:
        """Write this rank's part of a checkpoint."""
        for name, engine in self._engines.items():
            (folder / name / TAG).mkdir(parents=True, exist_ok=True)
            engine.save_checkpoint(str(folder / name), tag=TAG, save_latest=False)
        if self.rank == 0:
            torch.save(remaining_state(self.model, self.parts), folder / "remaining.pt")
        if self.average:
            torch.save(self.average.state(), folder / f"average-{self.rank}.pt")

    def load(self, folder: Path) -> None:
        """Take up a checkpoint whose digests have been checked."""
        for name, engine in self._engines.items():
            path, _ = engine.load_checkpoint(str(folder / name), tag=TAG)
            if path is None:
                raise TrainingError(f"the checkpoint has no state of the objective {name!r}")
        self.model.load_state_dict(torch.load(folder / "remaining.pt", weights_only=True), strict=False)
        if self.average:
            self.average.load(torch.load(folder / f"average-{self.rank}.pt", weights_only=True))

    @contextmanager
    def gathered(self) -> Generator[nn.Module]:
        """The model with whole weights (averaged ones if the run averages), in evaluation mode.

        All ranks must enter; under ZeRO-3 only rank 0 may read the weights.
        """
        partitioned: list[Any] = [p for p in self.model.parameters() if hasattr(p, "ds_id")]
        if partitioned:
            # ZeRO-3 keeps small parameters whole; released, they too are gathered from the (swapped) partitions.
            partitioned[0].partition(param_list=partitioned, has_been_updated=False)
        self.model.eval()
        if self.average:
            self.average.swap()
        try:
            with deepspeed.zero.GatheredParameters(
                partitioned, modifier_rank=None, enabled=bool(partitioned)
            ):
                yield self.model
        finally:
            if self.average:
                self.average.swap()

    def _start(self, part: Part) -> Any:
        settings = optimizers.settings_of(self.config.optimizer, self.config.optimizers, part.objective)
        engine, *_ = deepspeed.initialize(
            model=part.module,
            optimizer=optimizers.make(settings, part.parameters),
            config=deepspeed_config(self.config, self.world),
            dist_init_required=False,
        )
        return engine


@contextmanager
def whole_weights(model: nn.Module, *, enabled: bool) -> Generator[None]:
    """Keep the weights that ZeRO-3 has partitioned whole, also after a module's backward has passed.

    ZeRO-3 releases a layer's weights once its backward is done; one that is differentiated twice needs
    them again.
    """
    partitioned: list[Any] = [p for p in model.parameters() if hasattr(p, "ds_id")] if enabled else []
    if not partitioned:
        yield
        return
    absent = [p for p in partitioned if p.ds_status.name == "NOT_AVAILABLE"]
    if absent:
        absent[0].all_gather(param_list=absent)
    for parameter in partitioned:
        parameter.ds_active_sub_modules.add(HELD)
    try:
        yield
    finally:
        for parameter in partitioned:
            parameter.ds_active_sub_modules.discard(HELD)
        if absent:
            # Else they would count as present after the step has changed them, and be stale.
            absent[0].partition(param_list=absent, has_been_updated=False)


def deepspeed_config(config: RunConfig, world: int) -> dict[str, Any]:
    """DeepSpeed's JSON for a run: the user's own, and what the run states in its own keys."""
    own: dict[str, Any] = {
        "train_batch_size": config.global_batch,
        "train_micro_batch_size_per_gpu": config.global_batch // (world * config.accumulate),
        "gradient_accumulation_steps": config.accumulate,
        "gradient_clipping": config.clip,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 1 << 62,
    }
    if config.precision == "bf16":
        own["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}
    return {**config.deepspeed, **own}


def remaining_buffers(model: nn.Module) -> list[Tensor]:
    """The buffers that belong to the model's state."""
    names = set(model.state_dict(keep_vars=True))
    return [buffer for name, buffer in model.named_buffers() if name in names]


def split(batch: genloom.Batch, count: int) -> Iterator[genloom.Batch]:
    """A batch in equal micro batches."""
    if count == 1:
        yield batch
        return
    pieces = {
        name: value.chunk(count) if isinstance(value, Tensor) else (value,) * count
        for name, value in batch.items()
    }
    for number in range(count):
        yield {name: piece[number] for name, piece in pieces.items()}


def _scalar(name: str, value: Tensor | float) -> Tensor:
    scalar = torch.as_tensor(value, dtype=torch.float32).detach().cpu()
    if scalar.numel() != 1:
        raise PluginError(f"the metric {name!r} has shape {list(scalar.shape)}; return its mean")
    return scalar.reshape(())


def _seed(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big")
