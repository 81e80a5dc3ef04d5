"""The contenders of the training benchmark: ours, loops by hand, Accelerate, Lightning.

Each trains the same model from the same weights on the same batches with torch's AdamW, and reports the loss
as a mean over the ranks every ten steps. Peers are as lean as they go: no progress bar, no log, no checkpoints.
"""

import gc
import os
import os as _os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from benchmarks.training_models import MODELS, Benchmarked
from benchmarks.training_turns import Turns
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genloom_platform.train.micro import seed_everything

LOG_EVERY = int(_os.environ.get("LE", "10"))
RATE = 1e-3
RANKS = 2


@dataclass(frozen=True)
class Case:
    """What is trained, and at which ZeRO stage; at 0 peers without DeepSpeed take part."""

    model: str
    stage: int
    steps: int
    """In all."""

    @property
    def name(self) -> str:
        """The case in a word."""
        return f"{self.model}-{self.stage}"

    @property
    def trainable(self) -> Benchmarked:
        """The generator to train."""
        return MODELS[self.model]

    def model_and_optimizer(self, *, fused: bool = True) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Both as our engine makes them; or with the optimizer as torch makes it by default."""
        seed_everything(0, "weights")
        model = self.trainable.build(None)
        return model, torch.optim.AdamW(model.parameters(), lr=RATE, fused=fused)

    def deepspeed(self) -> dict[str, Any]:
        """DeepSpeed's JSON."""
        rows = self.trainable.rows
        return {
            "train_batch_size": rows * RANKS,
            "train_micro_batch_size_per_gpu": rows,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": 0.0,  # which it does by default, and the others do not
            "zero_optimization": {"stage": self.stage},
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 1 << 62,
        }


class Losses:
    """The loss every `LOG_EVERY` steps, as a mean over the ranks."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}

    def take(self, step: int, loss: Tensor) -> None:
        """Take in the loss of a step, where it is due."""
        if step % LOG_EVERY == 0:
            mean = loss.detach().clone()
            dist.all_reduce(mean)
            self.seen[step] = mean.item() / dist.get_world_size()


def ours(case: Case, turns: Turns) -> dict[int, float]:
    """`loop.train` without Ray."""
    from genloom_platform.config import Checkpoints, RunConfig
    from genloom_platform.train import loop

    # What a contender waits for its turn counts to our loop as a slow step, which it would report at once.
    loop.REPORT_S = 1e9
    config = RunConfig(
        generator={"name": case.model},
        data="none",
        steps=case.steps,
        global_batch=case.trainable.rows * RANKS,
        optimizer={"lr": RATE},
        log_every=LOG_EVERY,
        deepspeed={"zero_optimization": {"stage": case.stage}},
        checkpoint=Checkpoints(every=1 << 30),
    )
    seen: dict[int, float] = {}

    def report(engine, news):
        first = news.step - len(news.metrics) + 1
        seen.update({first + index: metrics["loss"] for index, metrics in enumerate(news.metrics)})
        return False

    batches = iter(turns)
    loop.train(config, case.trainable, None, lambda number: batches, report, lambda *saved: None)
    with suppress(StopIteration):
        next(batches)  # the last turn is over
    return seen


def by_hand(
    case: Case,
    turns: Turns,
    model: Callable[[Any], Any],
    update: Callable[[Tensor], None],
) -> dict[int, float]:
    """The loop that a person writes."""
    losses = Losses()
    for step, batch in enumerate(turns.tensors(), 1):
        loss = case.trainable.loss(model, batch).value
        update(loss)
        losses.take(step, loss)
    return losses.seen


def deepspeed_by_hand(case: Case, turns: Turns, *, fused: bool = True) -> dict[int, float]:
    """DeepSpeed as its guide has it."""
    import deepspeed

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = (
        False  # or it would be compiled for a minute
    )
    model, optimizer = case.model_and_optimizer(fused=fused)
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=case.deepspeed(), dist_init_required=False
    )

    def update(loss: Tensor) -> None:
        engine.backward(loss)
        engine.step()

    return by_hand(case, turns, engine, update)


def ddp_by_hand(
    case: Case, turns: Turns, wrap: Callable[[nn.Module], Any] = DistributedDataParallel
) -> dict[int, float]:
    """torch's DistributedDataParallel as its guide has it."""
    model, optimizer = case.model_and_optimizer()
    wrapped = wrap(model)

    def update(loss: Tensor) -> None:
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return by_hand(case, turns, wrapped, update)


def accelerate(case: Case, turns: Turns) -> dict[int, float]:
    """Accelerate: DDP at stage 0, else its DeepSpeed plugin."""
    from accelerate import Accelerator, DistributedType
    from accelerate.state import AcceleratorState
    from accelerate.utils import DeepSpeedPlugin

    AcceleratorState._reset_state(reset_partial_state=True)  # of the case before
    plugin = DeepSpeedPlugin(case.deepspeed(), zero3_init_flag=False) if case.stage else None
    accelerator = Accelerator(cpu=not plugin, deepspeed_plugin=plugin)
    assert (accelerator.distributed_type == DistributedType.DEEPSPEED) == bool(plugin)
    model, optimizer = accelerator.prepare(*case.model_and_optimizer())

    def update(loss: Tensor) -> None:
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    return by_hand(case, turns, model, update)


def lightning(case: Case, turns: Turns) -> dict[int, float]:
    """Lightning's DDP; its DeepSpeed strategy refuses a CPU."""
    import lightning.pytorch as pl
    from lightning.pytorch.plugins.environments import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy

    losses, (model, optimizer) = Losses(), case.model_and_optimizer()

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch, index):
            loss = case.trainable.loss(self.model, batch).value
            losses.take(index + 1, loss)
            return loss

        def configure_optimizers(self):
            return optimizer

    class Loader:
        def __iter__(self) -> Iterator[Any]:
            return turns.tensors()

    place: Any = TorchElasticEnvironment()
    strategy: Any = (
        DeepSpeedStrategy(config=case.deepspeed(), cluster_environment=place)
        if case.stage
        else DDPStrategy(process_group_backend="gloo", cluster_environment=place)
    )
    trainer = pl.Trainer(
        accelerator="cpu", devices=RANKS, strategy=strategy, max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(Module(), Loader())
    return losses.seen


CONTENDERS: dict[str, Callable[[Case, Turns], dict[int, float]]] = {
    "ours": ours,
    "deepspeed": deepspeed_by_hand,
    "unfused": partial(deepspeed_by_hand, fused=False),
    "ddp": ddp_by_hand,
    "accelerate": accelerate,
    "lightning": lightning,
}


def train_all(
    contender: str, run: Callable[[Case, Turns], dict[int, float]], place: str, cases: list[Case]
) -> None:
    """Train a contender's cases, one after the other, on this rank."""
    torch.set_num_threads(1)
    rank = dist.get_rank()
    for case in cases:
        turns = Turns(place, contender, case.name, rank, case.trainable.batches(rank))
        try:
            losses = run(case, turns)
        except Exception as error:  # a peer that cannot do a case may do the next
            turns.fail(f"{type(error).__name__}: {error}")
        else:
            turns.end(losses)
        gc.collect()


def rank_of_two(
    rank: int, contender: str, place: str, meeting: str, cases: list[Case], log: str
) -> None:
    """A process of a contender: joins the other rank, and trains."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(RANKS), LOCAL_WORLD_SIZE=str(RANKS),
        LOCAL_SIZE=str(RANKS), DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1",
    )  # fmt: skip
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=RANKS)
    train_all(contender, CONTENDERS[contender], place, cases)
    dist.barrier()
    dist.destroy_process_group()
