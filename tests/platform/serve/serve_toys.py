"""Small real models, registered nowhere."""

import time
from typing import Any

import torch
from pydantic import Field
from torch import nn

import genloom
from genloom import Image, ImageColumn, PromptError, Text, Value


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


def broken() -> genloom.LoadedModel:
    raise genloom.GenloomError("the weights are corrupt;\n  train it again")
