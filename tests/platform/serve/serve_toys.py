"""Small real models, registered nowhere."""

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import nn

import genloom
from genloom import Image, ImageColumn, PromptError, Text, Value
from genloom_platform.serve.sources import Source


class Drawer(genloom.Generator):
    """Draws noise that a layer has mixed."""

    contract = "1.0"
    makes = Image
    side: int = 8

    class Prompt(genloom.Prompt):
        """A picture to draw."""

        label: int | None = Field(default=None, ge=0, le=99)
        """Which digit; any where none is given."""
        like: Image | None = None
        """A picture that is left as it is."""

    def build(self, data: Any) -> nn.Module:
        return nn.Linear(16, self.side**2)

    def prepare(self, row, data):
        return {}

    def generate(self, model, prompts):
        assert not torch.is_grad_enabled()
        assert not model.training
        if any(prompt.label == 7 for prompt in prompts):
            raise RuntimeError("secret inside")
        if any(prompt.label == 8 for prompt in prompts):
            raise PromptError("label = 8: there is no eight; give 9")
        sources = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        noise = torch.stack([torch.randn(16, generator=source) for source in sources])
        return [Image.from_chw(x.reshape(1, self.side, self.side), -2, 2) for x in model(noise)]

    def check_prompt(self, prompt, data):
        if prompt.label is not None and prompt.label > 9:
            raise PromptError(f"label = {prompt.label}: the model knows 10 classes; give 0 to 9")


class Counter(genloom.Generator):
    """Writes how many prompts shared its batch."""

    contract = "1.0"
    makes = Text

    class Prompt(genloom.Prompt):
        """A count to take."""

        wait_s: float = Field(default=0, ge=0, le=10)
        """How long the batch takes."""

    def build(self, data):
        return nn.Identity()

    def prepare(self, row, data):
        return {}

    def generate(self, model, prompts):
        time.sleep(max(prompt.wait_s for prompt in prompts))
        return [Text(str(len(prompts)))] * len(prompts)


class Brightness(genloom.Predictor):
    """Tells how bright a picture is."""

    contract = "1.0"
    target = "brightness"

    class Data(genloom.Data):
        """Pictures."""

        image: ImageColumn

    class Prompt(genloom.Prompt):
        """A picture."""

        image: Image
        note: str | None = None

    def build(self, data):
        return nn.Identity()

    def prepare(self, row, data):
        assert set(row) == {"image"}
        return {"image": row["image"].to_chw()}

    def predict(self, model, batch):
        return [Value(value=value) for value in model(batch["image"]).mean((1, 2, 3)).tolist()]


class Reporter(genloom.Generator):
    """Writes a number of its seed, and which process wrote it."""

    contract = "1.0"
    makes = Text
    fails: bool = False

    class Prompt(genloom.Prompt):
        """A number to tell."""

        wait_s: float = Field(default=0, ge=0, le=10)
        """How long it takes."""

    def build(self, data):
        return nn.Identity()

    def prepare(self, row, data):
        return {}

    def generate(self, model, prompts):
        # The first prompt, of the warm start, is answered, or it would never be asked another.
        if self.fails and any(prompt.wait_s for prompt in prompts):
            raise RuntimeError("a version that fails")
        time.sleep(max(prompt.wait_s for prompt in prompts))
        sources = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        return [Text(f"{torch.randn((), generator=each).item()} {os.getpid()}") for each in sources]


class Unwarm(Reporter):
    """Fails on whatever it is asked."""

    def generate(self, model, prompts):
        raise RuntimeError("it cannot")


@dataclass(frozen=True)
class Folder:
    """Models whose aliases are files of a folder: versions 1 to 9 of `teller`; 3 and 9 fail."""

    path: Path

    def find(self, reference: str) -> Source:
        name, _, which = reference.partition("@")
        number = which if which.isdigit() else (self.path / which).read_text()
        version = f"{name}@{number}"
        trainable = Reporter(fails=number in "39")
        return Source(version, functools.partial(_loaded, version, trainable), 1700000000)

    def promote(self, alias: str, number: int) -> None:
        (self.path / f"{alias}.part").write_text(str(number))
        (self.path / f"{alias}.part").replace(self.path / alias)


def _loaded(name: str, trainable: genloom.Trainable, data: Any = None) -> genloom.LoadedModel:
    torch.manual_seed(0)
    return genloom.LoadedModel(name, trainable, trainable.build(data).eval(), data)


def drawer() -> genloom.LoadedModel:
    return _loaded("drawer@1", Drawer())


def counter() -> genloom.LoadedModel:
    return _loaded("counter@2", Counter())


def brightness() -> genloom.LoadedModel:
    data = Brightness.Data(image=ImageColumn(height=4, width=4))
    return _loaded("brightness@3", Brightness(), data)


def unwarm() -> genloom.LoadedModel:
    return _loaded("unwarm@1", Unwarm())


def broken() -> genloom.LoadedModel:
    raise genloom.GenloomError("the weights are corrupt;\n  train it again")
