"""Small real models, registered nowhere."""

import time
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

import genloom
from genloom import (
    Audio,
    ClassColumn,
    Embedding,
    Image,
    ImageColumn,
    Label,
    Note,
    Notes,
    PromptError,
    Text,
    Value,
)


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


class Teller(genloom.Generator):
    """Spells a start again and again, in another case by its seed, one character after the other.

    "slow" takes 0.05 s for each; "fail0" fails at the first, "fail3" at the fourth; "open?" is answered with
    how many streams are open in this process.
    """

    contract = "1.0"
    makes = Text
    open_streams: ClassVar[int] = 0
    """Streams in this process that have begun and not ended."""

    class Prompt(genloom.Prompt):
        """A text to repeat."""

        start: str = Field(default="abc", max_length=1000)
        """The text to go on with."""
        max_chars: int = Field(default=12, ge=1, le=1000)
        """Characters to write."""
        temperature: float = Field(default=1, ge=0, le=2)

    def build(self, data):
        return nn.Identity()

    def prepare(self, row, data):
        return {}

    def generate(self, model, prompts):
        return [Text("".join(piece.text for piece in self.stream(model, each))) for each in prompts]

    def stream(self, model, prompt):
        assert not torch.is_grad_enabled()
        if prompt.start == "open?":
            yield Text(str(Teller.open_streams))
            return
        Teller.open_streams += 1
        text = prompt.start.upper() if prompt.seed % 2 else prompt.start
        try:
            for index in range(prompt.max_chars):
                if prompt.start == f"fail{index}":
                    raise RuntimeError("secret inside")
                time.sleep(0.05 if prompt.start == "slow" else 0)
                yield Text(text[index % len(text)] if text else "-")
        finally:
            Teller.open_streams -= 1


class Speaker(genloom.Generator):
    """Hums a text: a tone for each character."""

    contract = "1.0"
    makes = Audio

    class Prompt(genloom.Prompt):
        """A text to hum."""

        text: str = Field(max_length=1000)
        """What to hum."""
        speed: float = Field(default=1, ge=0.25, le=4)
        """How fast."""

    def build(self, data):
        return nn.Identity()

    def prepare(self, row, data):
        return {}

    def generate(self, model, prompts):
        return [self._hum(prompt) for prompt in prompts]

    def _hum(self, prompt):
        time_s = torch.arange(int(1600 / prompt.speed)) / 16000
        tones = [
            torch.sin(2 * torch.pi * (200 + ord(each) % 100 * 10) * time_s) for each in prompt.text
        ]
        return Audio(torch.cat([*tones, torch.zeros(160)])[None].numpy() / 2, 16000)


class Composer(genloom.Generator):
    """Writes a scale."""

    contract = "1.0"
    makes = Notes

    class Prompt(genloom.Prompt):
        """A scale to write."""

        length: int = Field(default=8, ge=0, le=100)
        """Notes."""

    def build(self, data):
        return nn.Identity()

    def prepare(self, row, data):
        return {}

    def generate(self, model, prompts):
        return [Notes([Note(60 + n, n / 4, 0.25) for n in range(each.length)]) for each in prompts]


class Animals(genloom.Predictor):
    """Tells which animal is named."""

    contract = "1.0"
    target = "animal"

    class Data(genloom.Data):
        """Animals."""

        animal: ClassColumn

    class Prompt(genloom.Prompt):
        """A text."""

        text: str = Field(default="a dog", max_length=1000)
        """The text."""
        animal: int | None = Field(default=None, ge=0)
        """The one that it was before."""

    def build(self, data):
        return nn.Identity()

    def prepare(self, row, data):
        return {"found": torch.tensor([name in row["text"] for name in data.animal.names])}

    def predict(self, model, batch):
        shares = (batch["found"] * 0.7 + 0.1).tolist()
        return [Label(index=row.index(max(row)), probabilities=tuple(row)) for row in shares]


class Enlarger(genloom.Generator):
    """Makes a picture larger."""

    contract = "1.0"
    makes = Image

    class Prompt(genloom.Prompt):
        """A picture to enlarge."""

        image: Image
        """The picture."""
        factor: int = Field(default=2, ge=1, le=4)
        """How many times larger each side becomes."""

    def build(self, data):
        return nn.Identity()

    def prepare(self, row, data):
        return {}

    def generate(self, model, prompts):
        return [
            Image(each.image.array.repeat(each.factor, axis=0).repeat(each.factor, axis=1))
            for each in prompts
        ]


class Letters(genloom.Predictor):
    """Features of a text: how often each of three letters occurs."""

    contract = "1.0"
    target = "features"

    class Prompt(genloom.Prompt):
        """A text."""

        text: str = Field(max_length=100_000)
        """The text."""

    def build(self, data):
        return nn.Identity()

    def prepare(self, row, data):
        return {"counts": torch.tensor([float(row["text"].count(each)) for each in "abc"])}

    def predict(self, model, batch):
        return [Embedding(vector=tuple(counts)) for counts in batch["counts"].tolist()]


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


def teller() -> genloom.LoadedModel:
    return _loaded("teller@4", Teller())


def speaker() -> genloom.LoadedModel:
    return _loaded("speaker@5", Speaker())


def composer() -> genloom.LoadedModel:
    return _loaded("composer@8", Composer())


def animals() -> genloom.LoadedModel:
    data = Animals.Data(animal=ClassColumn(names=("cat", "dog", "bird")))
    return _loaded("animals@9", Animals(), data)


def enlarger() -> genloom.LoadedModel:
    return _loaded("enlarger@6", Enlarger())


def letters() -> genloom.LoadedModel:
    return _loaded("letters@7", Letters())
