"""Generators for tests whose losses draw no random numbers, so that they can be compared exactly."""

import time

import strikes
import torch
from pydantic import Field
from torch import nn

import genloom
from genloom import Image, ImageColumn, Loss, Objective, Optimizer

SIDE = 8


class Autoencoder(genloom.Generator):
    """One objective over the whole model, and a buffer that the loss changes."""

    contract = "1.0"
    makes = Image
    width: int = 32

    class Data(genloom.Data):
        image: ImageColumn

    def build(self, data):
        model = nn.Sequential(
            nn.Linear(SIDE * SIDE, self.width), nn.ReLU(), nn.Linear(self.width, SIDE * SIDE)
        )
        model.register_buffer("mean", torch.zeros(()))
        model.register_buffer("calls", torch.zeros((), dtype=torch.long))
        return model

    def prepare(self, row, data):
        return {"x": row["image"].to_chw().reshape(-1)}

    def loss(self, model, batch):
        x = batch["x"]
        model.mean.mul_(0.9).add_(0.1 * x.mean())
        model.calls.add_(1)
        return Loss((model(x) - x).square().mean(), {"mean": model.mean})

    def generate(self, model, prompts):
        noise = [
            torch.rand(SIDE * SIDE, generator=torch.Generator().manual_seed(p.seed)) for p in prompts
        ]
        return [Image.from_chw(model(each).reshape(1, SIDE, SIDE)) for each in noise]


class Pair(Autoencoder):
    """Two objectives, each on a part and with an optimizer of its own; the first one twice a step."""

    def build(self, data):
        model = nn.Module()
        model.encoder = nn.Linear(SIDE * SIDE, self.width)
        model.decoder = nn.Linear(self.width, SIDE * SIDE)
        return model

    def reconstruction(self, model, batch):
        output = model.decoder(model.encoder(batch["x"]).relu())
        return Loss((output - batch["x"]).square().mean())

    def sparsity(self, model, batch):
        code = model.encoder(batch["x"]).relu()
        return Loss(code.abs().mean() + (model.decoder(code) - batch["x"]).square().mean())

    def objectives(self):
        return [
            Objective("decoder", self.reconstruction, "decoder", repeats=2),
            Objective("encoder", self.sparsity, "encoder", optimizer=Optimizer(name="SGD", lr=0.1)),
        ]

    def generate(self, model, prompts):
        return super().generate(nn.Sequential(model.encoder, nn.ReLU(), model.decoder), prompts)


class Penalised(Pair):
    """A gradient penalty, differentiated twice, and a parameter that is read outside of a forward."""

    def build(self, data):
        model = super().build(data)
        model.encoder.scale = nn.Parameter(torch.ones(1))
        return model

    def penalty(self, model, batch):
        x = batch["x"].clone().requires_grad_(True)
        code = model.encoder(x).tanh() * model.encoder.scale
        (gradient,) = torch.autograd.grad(code.square().sum(), x, create_graph=True)
        return Loss((gradient.norm(dim=1) - 1).square().mean())

    def objectives(self):
        decoder, _ = super().objectives()
        return [decoder, Objective("encoder", self.penalty, "encoder", whole_weights=True)]


class Failing(Autoencoder):
    """Fails in its third step."""

    def loss(self, model, batch):
        if model.calls == 2:
            raise ValueError("the third step is too much")
        return super().loss(model, batch)


class Short(Autoencoder):
    """Asks in its third step for more memory than any machine has."""

    def loss(self, model, batch):
        if model.calls == 2:
            torch.empty(1 << 50)
        return super().loss(model, batch)


def rows_of(batch):
    """One number for the rows of a batch and their order."""
    x = batch["x"].double()
    places = torch.arange(1, len(x) + 1, dtype=torch.float64)
    return (x.sum(1) * places).sum() % 1000


class Watched(Autoencoder):
    """Says in its metrics which rows it saw: in their order, and as a sum that order does not change."""

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        return Loss(loss.value, {"rows": rows_of(batch), "sum": batch["x"].double().square().sum()})


class Struck(Watched):
    """Ends its own process at the moment of a step that `strike` names; see strikes.py."""

    plan: str
    """The folder in which that is written."""

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        return Loss(strikes.strike(self.plan, loss.value), loss.metrics)


class Moody(Autoencoder):
    """Says in its metrics how it is set and how often it was called; fails in its sixth step when angry."""

    mood: str = Field("calm", pattern="calm|angry")
    pace_s: float = 0
    mark: float = 0

    def loss(self, model, batch):
        time.sleep(self.pace_s)
        if self.mood == "angry" and model.calls >= 5:
            raise ValueError("the sixth step is too much")
        loss = super().loss(model, batch)
        return Loss(loss.value, {"mark": self.mark, "calls": model.calls.float()})


class Slow(Watched):
    """Takes a twentieth of a second for a step."""

    def loss(self, model, batch):
        time.sleep(0.05)
        return super().loss(model, batch)


class WatchedPair(Pair):
    """The same, with two objectives."""

    def reconstruction(self, model, batch):
        return Loss(super().reconstruction(model, batch).value, {"rows": rows_of(batch)})


class StruckPair(WatchedPair):
    """The same, with two objectives."""

    plan: str

    def reconstruction(self, model, batch):
        loss = super().reconstruction(model, batch)
        return Loss(strikes.strike(self.plan, loss.value), loss.metrics)

    def sparsity(self, model, batch):
        return Loss(strikes.strike(self.plan, super().sparsity(model, batch).value))


class Breaking(Watched):
    """Its loss is NaN on about one batch in forty."""

    def loss(self, model, batch):
        loss = super().loss(model, batch)
        broken = int(rows_of(batch)) % 40 == 7
        return Loss(loss.value * float("nan") if broken else loss.value, loss.metrics)
