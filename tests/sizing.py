"""The memory that an engine really takes on several ranks, for a model whose activations are next to nothing."""

import gc
from statistics import median

import torch
from torch import nn

import genloom
from genloom import Image, Loss, Objective, Optimizer
from genloom_platform.config import RunConfig
from genloom_platform.train.meter import Meter

WIDTH = 384
ROWS = 4
BUCKET = 200_000
STEPS = 4
"""Of which the first is not like the others; and in one of the others a busy machine may hold messages back."""


class Deep(genloom.Generator):
    """Six equal layers, which one objective trains or two."""

    contract = "1.0"
    makes = Image
    objectives_wanted: int = 1

    def build(self, data):
        layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU()) for _ in range(6)]
        model = nn.Module()
        model.front, model.back = nn.Sequential(*layers[:4]), nn.Sequential(*layers[4:])
        model.register_buffer("table", torch.zeros(1000))
        return model

    def prepare(self, row, data):
        return {}

    def cost(self, model, batch):
        return Loss(model.back(model.front(batch["x"])).square().mean())

    def objectives(self):
        front = Objective("front", self.cost, "front")
        back = Objective("back", self.cost, "back", optimizer=Optimizer(name="SGD", lr=0.1))
        both = Objective("both", self.cost, ("front", "back"))
        return [both] if self.objectives_wanted == 1 else [front, back]

    def generate(self, model, prompts):
        return []


def a_config(stage, **settings):
    zero = {"stage": stage, "reduce_bucket_size": BUCKET, "stage3_param_persistence_threshold": 1000}
    zero |= settings.pop("zero", {})
    return RunConfig(
        generator={"name": "example"}, data="digits", global_batch=ROWS,
        deepspeed={"zero_optimization": zero}, samples={"every": 0}, **settings,
    )  # fmt: skip


def measured(generator, cases):
    """Bytes of an engine between two steps, and at the fullest moment of most, for each (stage, settings)."""
    from genloom_platform.train.engine import Engine

    found = []
    gc.collect()
    gc.freeze()  # what is there already need not be looked through each time
    for stage, settings in cases:
        before = _living()
        engine = Engine(a_config(stage, **settings), generator, None)
        batch = {"x": torch.randn(ROWS // engine.world, WIDTH)}
        most = []
        for number in range(STEPS):
            gc.collect()
            with Meter(torch.device("cpu")) as meter:
                engine.step(number, [batch])
            most.append(meter.sections[-1].most)
        states = _living() - before
        found.append((states, states + median(most[1:])))
        del engine
    gc.unfreeze()
    return found


def _living():
    """Bytes of all tensors."""
    gc.collect()
    storages = {}
    for each in gc.get_objects():
        if type(each) in (torch.Tensor, nn.Parameter) and each.device.type == "cpu":
            storages[each.untyped_storage().data_ptr()] = each.untyped_storage().nbytes()
    return sum(storages.values())
