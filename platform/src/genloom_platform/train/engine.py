"""The engine: one DeepSpeed engine for each objective, over the plain modules that it trains.

Losses call the plain module; the DeepSpeed engines own gradients, optimizers and their sharding.
That gives the same losses at every ZeRO stage, with double backward and with several networks,
and no generator has to know of DeepSpeed.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import genloom
from genloom.errors import PluginError
from genloom_platform.config import RunConfig
from genloom_platform.train import optimizers, recompute
from genloom_platform.train.average import Average
from genloom_platform.train.bare import filled, outline
from genloom_platform.train.engine_import import deepspeed
from genloom_platform.train.failures import NonFiniteLoss
from genloom_platform.train.holding import Held, held, refresh
from genloom_platform.train.micro import scalar, seed_everything, split
from genloom_platform.train.parts import Part, parts_of, remaining_state
from genloom_platform.train.sharding import (
    AUTOCAST,
    deepspeed_config,
    forget_autocast,
    loss_scaler,
    lower_scale_on_overflow,
    whole_weights,
)
from genloom_platform.train.snapshot import AVERAGE, REST, SCALER, WEIGHTS, Parts, State, state_of


class Engine:
    """A generator's model in training, on one rank."""

    def __init__(
        self,
        config: RunConfig,
        trainable: genloom.Trainable,
        data: Any,
        prepare: Callable[[nn.Module], None] = lambda model: None,
    ) -> None:
        self.config, self.trainable = config, trainable
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        seed_everything(config.seed, "weights")
        built = trainable.build(data)
        prepare(built)
        self.model = built.to(self.device)
        self.before_change: Callable[[], None] = lambda: None
        """Called before anything but a loss changes what `state` gives: a saver may still be copying it."""
        self._modules = list(self.model.modules())
        self._outline = outline(self.model) if config.zero_stage == 3 else None
        self.objectives = list(trainable.objectives())
        self.parts = parts_of(self.model, self.objectives)
        self.rounds = max(objective.repeats for objective in self.objectives)
        """Global batches that a step reads."""
        self._names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        recompute.activations(self.model, config.recompute)
        forget_autocast()
        self._engines = {part.objective.name: self._start(part) for part in self.parts}
        self._rates = {name: rates_of(engine) for name, engine in self._engines.items()}
        self._buffers = [b for b in remaining_buffers(self.model) if b.numel()]
        self.average = Average(self.model, config.average) if config.average else None
        if config.compile:
            for module in (*self.model.children(), self.model):  # losses may call either
                module.compile()

    def step(self, number: int, batches: Sequence[genloom.Batch]) -> dict[str, Tensor]:
        """Train every objective once, on its share of the step's batches.

        Args:
            number: The step, from 0. Together with the run's seed and the rank it is all that the
                random numbers of the losses depend on, so a resumed run draws the same.
            batches: This rank's share of the step's global batches, `self.rounds` of them.

        Returns:
            Scalars of this rank, by name: each objective's loss and metrics, from its last repeat.
        """
        if not all(module.training for module in self._modules):
            self.model.train()
        metrics: dict[str, Tensor] = {}
        for part in self.parts:
            for repeat, batch in enumerate(batches[-part.objective.repeats :]):
                name = part.objective.name
                seed_everything(self.config.seed, f"{number}/{name}/{repeat}/{self.rank}")
                self._set_rates(part, number)
                metrics.update(self._update(part, batch))
        if self.average:
            self.average.update()
        return metrics

    def _update(self, part: Part, batch: genloom.Batch) -> dict[str, Tensor]:
        """One optimizer step of one objective."""
        engine = self._engines[part.objective.name]
        self._train_only(part)
        metrics: dict[str, Tensor] = {}
        passed = False
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
                passed = self.config.recovery.nan == "skip" and not self._finite(loss.value)
                if not passed:
                    engine.backward(loss.value)
            if not passed:
                if engine.is_gradient_accumulation_boundary():
                    self.before_change()
                engine.step()
                lower_scale_on_overflow(engine)
            for name, value in self._named(part, loss).items():
                share = scalar(name, value, self.device) / self.config.accumulate
                metrics[name] = metrics[name] + share if name in metrics else share
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
            self.device.type,
            dtype=getattr(torch, AUTOCAST.get(self.config.precision, "bfloat16")),
            enabled=self.config.precision in AUTOCAST,
        )

    def _finite(self, loss: Tensor) -> bool:
        """Whether a loss is a number on every rank."""
        fault = torch.isfinite(loss.detach()).logical_not().float()
        dist.all_reduce(fault)
        return fault.item() == 0

    def _set_rates(self, part: Part, step: int) -> None:
        """The learning rates of a step, by the objective's schedule."""
        name = part.objective.name
        factor = self.config.schedule_of(name).factor(step, self.config.steps)
        for group, rate in zip(
            self._engines[name].optimizer.param_groups, self._rates[name], strict=True
        ):
            group["lr"] = rate * factor

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

    def mean(self, steps: Mapping[int, Mapping[str, Tensor]]) -> dict[int, dict[str, float]]:
        """The metrics of several steps, by step, as means over the ranks, by one all-reduce.

        Raises:
            NonFiniteLoss: On all ranks, where a loss was NaN or infinite and the run does not pass that over.
        """
        if not steps:
            return {}
        names = list(next(iter(steps.values())))
        table = torch.stack([torch.stack([step[name] for name in names]) for step in steps.values()])
        dist.all_reduce(table)
        rows = (table / self.world).tolist()
        means = {
            number: dict(zip(names, row, strict=True)) for number, row in zip(steps, rows, strict=True)
        }
        if self.config.recovery.nan != "skip":
            for number, values in means.items():
                for part in self.parts:
                    value = values[part.objective.name]
                    if not np.isfinite(value):
                        raise NonFiniteLoss(part.objective.name, str(value), number)
        return means

    def mean_of(self, values: Mapping[str, float], count: int) -> dict[str, float]:
        """Some numbers, divided by a count, as means over the ranks."""
        table = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(table)
        return dict(zip(values, (table / self.world / count).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank; the same answer on all."""
        vote = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(vote)
        return vote.item() > 0

    def state(self) -> dict[str, State]:
        """This rank's parts of a checkpoint, by name: live tensors, to be copied before they change."""
        own: State = {}
        for part in self.parts:
            name = part.objective.name
            own.update(state_of(name, self._held(part), self.rank, self.world))
        if self.average:
            own.update(state_of(AVERAGE, self.average.held(), self.rank, self.world))
        parts = {f"rank-{self.rank}": own}
        if self.rank == 0:
            parts["rest"] = self._rest()
        return parts

    def fleeting(self) -> set[str]:
        """The names of what a loss may change, and not only what `before_change` goes before."""
        frozen = {
            f"{part.objective.name}|{piece.name}|{WEIGHTS}"
            for part in self.parts
            for each in self._held(part)
            if not each.trained
            for piece in each.pieces
        }
        return frozen | set(self._rest())

    def _rest(self) -> State:
        """What is the same on every rank, and small."""
        rest: State = {
            f"{REST}|{name}": (value, None)
            for name, value in remaining_state(self.model, self.parts).items()
        }
        if self.average:
            rest[f"{AVERAGE}|updates"] = (torch.tensor(self.average.updates), None)
        for name, engine in self._engines.items():
            scaler = loss_scaler(engine)
            for key, value in (scaler.state_dict() if scaler else {}).items():
                rest[f"{SCALER}{name}|{key}"] = (torch.tensor(value, dtype=torch.float64), None)
        return rest

    def load(self, parts: Parts, step: int) -> None:
        """Take up the state that was saved after `step` steps, by whatever number of ranks and ZeRO stage."""
        for part in self.parts:
            name, engine = part.objective.name, self._engines[part.objective.name]
            parts.fill(name, self._held(part))
            optimizers.place_counts(engine.basic_optimizer)
            refresh(engine)
            updates = step * part.objective.repeats
            engine.global_steps, engine.micro_steps = updates, updates * self.config.accumulate
            engine.global_samples = updates * self.config.global_batch
            scaler = loss_scaler(engine)
            saved = {key: value.item() for key, value in parts.values(SCALER + name).items()}
            if scaler and saved:
                whole = {key: int(value) if key.startswith("_") or "interval" in key else value
                         for key, value in saved.items()}  # fmt: skip
                scaler.load_state_dict(whole)
        self.model.load_state_dict(parts.values(REST), strict=False)
        if self.average:
            parts.fill(AVERAGE, self.average.held())
            self.average.updates = int(parts.values(AVERAGE)["updates"])

    @property
    def replicates(self) -> bool:
        """Whether the ranks hold something of which each saves a share: loading then takes all shares."""
        held = [each for part in self.parts for each in self._held(part)]
        held += self.average.held() if self.average else ()
        return any(each.whole for each in held)

    def _held(self, part: Part) -> list[Held]:
        return list(held(self._engines[part.objective.name], part.parameters, self._names))

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
        self.before_change()
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

    @contextmanager
    def shown(self) -> Generator[nn.Module | None]:
        """On rank 0 the model as `gathered` has it, to be called as often as one likes; None on the others."""
        with self.gathered() as module:
            if self._outline is None or self.rank:
                yield None if self.rank else module
                return
            copied = filled(self._outline, module, self.device)
        yield copied

    def _start(self, part: Part) -> Any:
        settings = optimizers.settings_of(self.config.optimizer, self.config.optimizers, part.objective)
        rates = self.config.finetune.rates if self.config.finetune else {}

        def factor(parameter: nn.Parameter) -> float:
            return optimizers.factor_of(self._names[id(parameter)], rates)

        engine, *_ = deepspeed.initialize(
            model=part.module,
            optimizer=optimizers.make(settings, part.parameters, factor),
            config=deepspeed_config(self.config, self.world, sum(p.numel() for p in part.parameters)),
            dist_init_required=False,
        )
        return engine


def remaining_buffers(model: nn.Module) -> list[Tensor]:
    """The buffers that belong to the model's state."""
    names = set(model.state_dict(keep_vars=True))
    return [buffer for name, buffer in model.named_buffers() if name in names]


def rates_of(engine: Any) -> list[float]:
    """The learning rates that an optimizer was made with, by group."""
    return [float(group["lr"]) for group in engine.optimizer.param_groups]
