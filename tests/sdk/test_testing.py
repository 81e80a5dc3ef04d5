"""The conformance kit: what keeps the contract passes, and each thing that breaks it is told."""

import random
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ConfigDict, Field
from torch import Tensor, nn

import genloom
import genloom.testing
from genloom import Audio, ClassColumn, Image, ImageColumn, Label, Loss, Objective, Text, TextColumn
from genloom.testing import Finding, distributed, examples


class Net(nn.Module):
    """Two halves, and a buffer that the loss updates."""

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(pixels, 8)
        self.decoder = nn.Linear(8, pixels)
        self.label = nn.Embedding(classes, 8)
        self.register_buffer("mean", torch.zeros(8))


class Good(genloom.Generator):
    """A small autoencoder whose loss draws nothing."""

    contract = "1.0"
    makes = Image

    scale: float = Field(1.0, gt=0)
    """Of the latent numbers."""

    class Data(genloom.Data):
        image: ImageColumn
        label: ClassColumn | None = None

    class Prompt(genloom.Prompt):
        label: int | None = None
        """The class."""

    def build(self, data: Any) -> nn.Module:
        assert data.image.height
        assert data.image.width
        return Net(data.image.height * data.image.width, len(data.label.names) if data.label else 1)

    def prepare(self, row: genloom.Row, data: Any) -> genloom.Example:
        return {"x": row["image"].to_chw().ravel(), "y": row["label"] if data.label else 0}

    def loss(self, model: Any, batch: Any) -> Loss:
        code = torch.tanh(model.encoder(batch["x"]) + model.label(batch["y"])) * self.scale
        model.mean.lerp_(code.detach().mean(0), 0.1)
        return Loss(F.mse_loss(model.decoder(code), batch["x"]), {"size": code.abs().mean()})

    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        draws = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
        code = torch.stack([torch.randn(8, generator=draw) for draw in draws]) * 3
        pixels = torch.sigmoid(model.decoder(code + model.mean))
        side = round(pixels.shape[1] ** 0.5)
        return [Image.from_chw(picture.view(1, side, side)) for picture in pixels]


class Writer(genloom.Generator):
    """A text generator that knows how often each character comes."""

    contract = "1.0"
    makes = Text

    class Data(genloom.Data):
        text: TextColumn

    def build(self, data: Any) -> nn.Module:
        model = nn.Module()
        model.logits = nn.Parameter(torch.randn(len(data.text.vocabulary)))
        model.vocabulary = data.text.vocabulary
        return model

    def prepare(self, row: genloom.Row, data: Any) -> genloom.Example:
        return {"counts": np.array([row["text"].count(c) for c in data.text.vocabulary], np.float32)}

    def loss(self, model: Any, batch: Any) -> Loss:
        return Loss(-(batch["counts"] * torch.log_softmax(model.logits, 0)).sum(1).mean())

    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        return [Text("".join(str(piece) for piece in self.stream(model, prompt))) for prompt in prompts]

    def stream(self, model: Any, prompt: Any) -> Any:
        draw = torch.Generator().manual_seed(prompt.seed)
        for place in torch.multinomial(torch.softmax(model.logits, 0), 20, True, generator=draw):
            yield Text(model.vocabulary[int(place)])


class Guesser(genloom.Predictor):
    """A linear classifier."""

    contract = "1.0"

    class Data(genloom.Data):
        image: ImageColumn
        label: ClassColumn

    class Prompt(genloom.Prompt):
        image: Image
        """A picture."""

    def build(self, data: Any) -> nn.Module:
        return nn.Linear(data.image.height * data.image.width, len(data.label.names))

    def prepare(self, row: genloom.Row, data: Any) -> genloom.Example:
        example: dict[str, Any] = {"x": row["image"].to_chw().ravel()}
        return example | {"y": row["label"]} if "label" in row else example

    def loss(self, model: Any, batch: Any) -> Loss:
        return Loss(F.cross_entropy(model(batch["x"]), batch["y"]))

    def predict(self, model: Any, batch: Any) -> Sequence[genloom.Prediction]:
        rows = torch.softmax(model(batch["x"]).double(), 1).tolist()
        return [Label(index=row.index(max(row)), probabilities=tuple(row)) for row in rows]


class Forgetful(Good):
    """Its loss keeps a number that no checkpoint holds and no rank shares."""

    def build(self, data: Any) -> nn.Module:
        model = super().build(data)
        model.register_buffer("seen", torch.zeros(1), persistent=False)
        return model

    def loss(self, model: Any, batch: Any) -> Loss:
        model.seen += batch["x"].mean()
        return Loss(super().loss(model, batch).value * (1 + 0.01 * model.seen.clone()).squeeze())


def found(subject: Any, check: str, **options: Any) -> Finding:
    report = genloom.testing.report(subject, distributed=False, **options)
    return next(finding for finding in report.findings if finding.check == check)


@pytest.mark.parametrize("subject", [Good, Writer, Guesser, Good(scale=0.5)])
def test_what_keeps_the_contract_passes(subject: Any) -> None:
    report = genloom.testing.check(subject, distributed=False)
    assert {finding.outcome for finding in report.findings[:-1]} == {"passed"}


def test_importing_the_kit_imports_no_torch_and_no_platform() -> None:
    heavy = ("torch", "ray", "genloom_platform")
    code = f"import genloom.testing, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- what the class states


class Unfinished(genloom.Generator):
    contract = "1.0"
    makes = Image


class Unversioned(Good):
    contract = None  # type: ignore[assignment]


class FromTheFuture(Good):
    contract = "2.0"


class MakesNothing(Good):
    makes = None  # type: ignore[assignment]


class NoSuchTarget(Guesser):
    target = "category"


class Demanding(Good):
    size: int
    """Has no default."""


class LosesItsTuple(Good):
    sizes: Any = (1, 2)
    """A list, after JSON."""


class Changeable(Good):
    model_config = ConfigDict(frozen=False)


class NoColumn(Good):
    class Data(genloom.Data):
        image: Image


class NoData(Good):
    Data = genloom.Data


class SilentPrompt(Good):
    class Prompt(genloom.Prompt):
        label: int | None = None


class SilentField(Good):
    size: int = 3


# ---- what training asks


class BuildsADict(Good):
    def build(self, data: Any) -> Any:
        return {"encoder": nn.Linear(1, 1)}


class RefusesData(Good):
    def build(self, data: Any) -> Any:
        raise ValueError("pictures must be round")


class NothingToTrain(Good):
    def build(self, data: Any) -> nn.Module:
        return super().build(data).requires_grad_(False)


class Scalar(Good):
    def build(self, data: Any) -> nn.Module:
        model = super().build(data)
        model.gain = nn.Parameter(torch.tensor(1.0))
        return model


class WeightsFromNumpy(Good):
    def build(self, data: Any) -> nn.Module:
        model = super().build(data)
        model.encoder.weight = nn.Parameter(
            torch.from_numpy(np.random.randn(*model.encoder.weight.shape)).float()
        )
        return model


class PreparesWords(Good):
    def prepare(self, row: genloom.Row, data: Any) -> Any:
        return {**super().prepare(row, data), "name": "seven"}


class ChangesTheRow(Good):
    def prepare(self, row: genloom.Row, data: Any) -> Any:
        row["image"].array[:] = 0
        return super().prepare(row, data)


class Whimsical(Good):
    def prepare(self, row: genloom.Row, data: Any) -> Any:
        example = dict(super().prepare(row, data))
        return {**example, "x": example["x"] + np.float32(np.random.rand())}


class Ragged(Writer):
    def prepare(self, row: genloom.Row, data: Any) -> Any:
        return {"counts": np.array([data.text.vocabulary.index(c) for c in row["text"]])}


class TimeFirst(Good):
    def collate(self, examples: Sequence[Any]) -> Any:
        return {
            name: value.t() if value.ndim == 2 else value
            for name, value in super().collate(examples).items()
        }


class NoSuchChild(Good):
    def objectives(self) -> Sequence[Objective]:
        return [Objective("loss", self.loss, "encodr")]


class TwoOwners(Good):
    def objectives(self) -> Sequence[Objective]:
        return [Objective("one", self.loss), Objective("two", self.loss, "decoder")]


class Idle(Good):
    def objectives(self) -> Sequence[Objective]:
        return [Objective("loss", self.loss, ["encoder", "label"])]


class LossIsATensor(Good):
    def loss(self, model: Any, batch: Any) -> Any:
        return super().loss(model, batch).value


class LossOfEach(Good):
    def loss(self, model: Any, batch: Any) -> Loss:
        return Loss((model.decoder(model.encoder(batch["x"])) ** 2).mean(1))


class LossIsNan(Good):
    def loss(self, model: Any, batch: Any) -> Loss:
        return Loss(super().loss(model, batch).value * float("nan"))


class LossDetached(Good):
    def loss(self, model: Any, batch: Any) -> Loss:
        return Loss(super().loss(model, batch).value.detach())


class StepsByItself(Good):
    def loss(self, model: Any, batch: Any) -> Loss:
        loss = super().loss(model, batch)
        loss.value.backward(retain_graph=True)
        return loss


class UnusedLayer(Good):
    def build(self, data: Any) -> nn.Module:
        model = super().build(data)
        model.spare = nn.Linear(2, 2)
        return model


class OneLikelihood(Good):
    def likelihood(self, model: Any, batch: Any) -> Any:
        return genloom.Likelihood(torch.tensor(1.0), torch.tensor(1.0))


class NeedsLabels(Good):
    def build(self, data: Any) -> nn.Module:
        return Net(data.image.height * data.image.width, len(data.label.names))


class OtherDice(Good):
    def loss(self, model: Any, batch: Any) -> Loss:
        return Loss(super().loss(model, batch).value * random.random())


class Summed(Good):
    def loss(self, model: Any, batch: Any) -> Loss:
        loss = super().loss(model, batch)
        return Loss(loss.value * len(batch["x"]))


class Normalised(Good):
    def loss(self, model: Any, batch: Any) -> Loss:
        centred = {**batch, "x": (batch["x"] - batch["x"].mean(0)) / (batch["x"].std(0) + 0.1)}
        return super().loss(model, centred)


# ---- what generation asks


class Picky(Good):
    def check_prompt(self, prompt: Any, data: Any) -> None:
        raise genloom.PromptError("ask for something else")


class OneForAll(Good):
    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        return list(super().generate(model, prompts))[:1]


class WrongKind(Good):
    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        return [Text("a picture") for _ in prompts]


class TooLoud(Good):
    makes = Audio

    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        return [Audio(np.full((1, 100), 3.0, np.float32), 8000) for _ in prompts]


class GlobalDice(Good):
    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        return [Image.from_chw(torch.rand(1, 8, 8)) for _ in prompts]


class OneDieForAll(Good):
    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        draw = torch.Generator().manual_seed(prompts[0].seed)
        return [Image.from_chw(torch.rand(1, 8, 8, generator=draw)) for _ in prompts]


class Deaf(Good):
    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        return [Image(np.zeros((8, 8, 1), np.uint8)) for _ in prompts]


class Unregistered(Good):
    def build(self, data: Any) -> nn.Module:
        model = super().build(data)
        model.code: Tensor = torch.randn(8)
        return model

    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        pixels = torch.sigmoid(3 * model.decoder(model.code * prompts[0].seed))
        return [Image.from_chw(pixels.view(1, 16, 16)) for _ in prompts]


class Stutters(Writer):
    def stream(self, model: Any, prompt: Any) -> Any:
        yield from [Text("la"), Text("la")]

    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        return [Text(f"la {prompt.seed}") for prompt in prompts]


class Crowd(genloom.RunningBatch):
    places = 2

    def __init__(self) -> None:
        self.here: dict[int, Any] = {}

    def join(self, place: int, prompt: Any) -> None:
        self.here[place] = prompt

    def leave(self, place: int) -> None:
        del self.here[place]

    def step(self) -> Any:
        count = len(self.here)
        pieces = {place: genloom.Piece(Text("la" * count), True) for place in self.here}
        self.here.clear()
        return pieces


class Crowded(Stutters):
    def generate(self, model: Any, prompts: Sequence[Any]) -> Sequence[genloom.Sample]:
        return [Text("la la") for _ in prompts]

    def running(self, model: Any) -> Crowd:
        return Crowd()


# ---- what prediction asks


class NeedsTheAnswer(Guesser):
    def prepare(self, row: genloom.Row, data: Any) -> genloom.Example:
        return {"x": row["image"].to_chw().ravel(), "y": row["label"]}


class Improbable(Guesser):
    def predict(self, model: Any, batch: Any) -> Sequence[genloom.Prediction]:
        return [Label(index=0, probabilities=(0.9, 0.9)) for _ in batch["x"]]


class Sociable(Guesser):
    def predict(self, model: Any, batch: Any) -> Sequence[genloom.Prediction]:
        return [genloom.Value(value=float(batch["x"].sum())) for _ in batch["x"]]


class NoPicture(Guesser):
    Prompt = genloom.Prompt


FAULTS = [
    (Unfinished, "methods", "lacks build, generate, prepare", "write the missing"),
    (Unversioned, "contract version", "None", 'contract = "1.0"'),
    (FromTheFuture, "contract version", "2.0", 'contract = "1.0"'),
    (MakesNothing, "makes", "None", "makes = genloom.Image"),
    (NoSuchTarget, "makes", "category", "target ="),
    (Demanding, "configuration", "no default for size", "give defaults"),
    (LosesItsTuple, "configuration", "differ: sizes", "a type that JSON can hold"),
    (Changeable, "configuration", "can be changed", "frozen"),
    (NoColumn, "columns", "Data.image", "genloom.ImageColumn"),
    (NoData, "columns", "no column", "class Data(genloom.Data)"),
    (SilentPrompt, "prompt's fields", "unexplained label", "docstring"),
    (BuildsADict, "build", "returned dict", "return one torch.nn.Module"),
    (RefusesData, "build", "pictures must be round (in build, line", "check(…, rows="),
    (NothingToTrain, "build", "no parameter", "assign its layers"),
    (Scalar, "build", "gain has no dimension", "torch.zeros(1)"),
    (WeightsFromNumpy, "weights from the seed", "encoder.weight", "torch's global generator"),
    (PreparesWords, "prepare", "'name' is str", "arrays and numbers"),
    (ChangesTheRow, "prepare", "row 0 was changed", "copy before changing"),
    (Whimsical, "prepare repeats", "two different x", "row.rng"),
    (Ragged, "collate", "RuntimeError", "pad"),
    (TimeFirst, "collate", "'x' of 8 examples has shape [256, 8]", "override collate"),
    (NoSuchChild, "objectives", "the model has encoder, decoder, label", "name children"),
    (TwoOwners, "objectives", "both train decoder", "name children"),
    (LossIsATensor, "loss", "returned Tensor", "genloom.Loss"),
    (LossOfEach, "loss", "shape [8]", "mean"),
    (LossIsNan, "loss", "is nan", "logarithms"),
    (LossDetached, "loss", "no gradient", "without detach"),
    (StepsByItself, "loss", "left gradients", "no backward()"),
    (UnusedLayer, "gradients", "spare.weight, spare.bias", "use the layer"),
    (OneLikelihood, "likelihood", "shape []", "[batch]"),
    (NeedsLabels, "optional columns", "AttributeError", "data.COLUMN as None"),
    (OtherDice, "loss repeats", "gave", "torch's global generator"),
    (Summed, "loss is a mean", "doubles", "not the sum"),
    (Picky, "prompts", "ask for something else", "prompts=["),
    (OneForAll, "generate", "3 prompts gave 1", "as long as prompts"),
    (WrongKind, "generate", "a sample is Text", "`makes`"),
    (TooLoud, "samples travel", "levels apart", "in its range"),
    (GlobalDice, "same seed", "levels apart", "manual_seed(prompt.seed)"),
    (OneDieForAll, "same seed in a batch", "two places of a batch", "manual_seed(prompt.seed)"),
    (Unregistered, "weights say all", "another sample", "register_buffer"),
    (Crowded, "running batch", "in a running batch and alone", "do not depend on others"),
    (Stutters, "stream", "joined and whole", "join the pieces"),
    (NeedsTheAnswer, "predict", "KeyError", "without target"),
    (Improbable, "predictions travel", "sum 1.8", "normalise"),
    (Sociable, "same in a batch", "alone", "touch another"),
    (NoPicture, "prompts", "lacks image", "under the same name"),
]


@pytest.mark.parametrize(
    ("subject", "check", "seen", "remedy"), FAULTS, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_fault_is_told_with_its_remedy(subject: Any, check: str, seen: str, remedy: str) -> None:
    finding = found(subject, check)
    assert finding.outcome == "failed"
    assert seen in finding.seen
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("subject", "check", "seen"),
    [
        (SilentField, "fields explained", "unexplained size"),
        (Idle, "objectives", "no objective trains decoder.weight, decoder.bias"),
        (Normalised, "loss is a mean", "for its halves"),
        (Deaf, "seeds differ", "one and the same"),
    ],
)
def test_what_may_be_meant_is_a_warning(subject: Any, check: str, seen: str) -> None:
    finding = found(subject, check)
    assert finding.outcome == "warning"
    assert seen in finding.seen


def test_check_lists_every_fault_at_once_and_what_they_hid() -> None:
    class Bad(UnusedLayer):
        contract = "x"

    with pytest.raises(AssertionError) as caught:
        genloom.testing.check(Bad, distributed=False)
    text = str(caught.value)
    assert text.startswith("Bad breaks 2 rules")
    assert "✗ contract version" in text
    assert "✗ gradients" in text
    assert "mend: " in text


def test_rows_and_prompts_of_the_author_are_used() -> None:
    rows = [
        {"image": Image(np.full((8, 8, 1), level, np.uint8)), "label": level % 3}
        for level in range(0, 90, 5)
    ]
    finding = found(Good, "collate", rows=rows)
    assert finding.seen == "x [8, 64], y [8]"
    finding = found(Good, "prompts", rows=rows, prompts=[{"label": 2}])
    assert finding.seen == "1 of them"


def test_a_name_is_looked_up_and_an_unknown_one_is_no_finding() -> None:
    with pytest.raises(genloom.GenloomError, match="no generator 'no-such-thing'"):
        genloom.testing.report("no-such-thing")


def test_example_rows_are_those_of_their_seed_and_tell_their_class() -> None:
    class Data(genloom.Data):
        image: ImageColumn
        audio: genloom.AudioColumn
        notes: genloom.NotesColumn
        text: TextColumn
        user: genloom.IdColumn
        rating: genloom.NumberColumn
        features: genloom.TensorColumn
        label: ClassColumn | None = None

    one, other = (examples.example_rows(Data, 40, seed=3) for _ in range(2))
    assert all(
        one[i]["image"] == other[i]["image"] and one[i]["text"] == other[i]["text"] for i in range(40)
    )
    data = Data.model_validate(examples.columns_of(Data, one))
    assert (data.image.height, data.image.channels, data.audio.rate_hz) == (16, 1, 8000)
    assert data.features.shape == (8,)
    means = np.stack(
        [np.mean([row["image"].array for row in one if row["label"] == c], 0).ravel() for c in range(4)]
    )
    nearest = [np.argmin(((means - row["image"].array.ravel()) ** 2).sum(1)) for row in one]
    assert nearest == [row["label"] for row in one]


def test_without_a_platform_training_is_told_not_to_have_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "entry_points", lambda **names: [])
    report = genloom.testing.check(Good)
    (skipped,) = report.of("not run")
    assert skipped.check == "training"
    assert "pip install genloom-platform" in skipped.seen
    assert "not checked" in str(report)


# ---- through the platform


def test_a_class_inside_a_function_cannot_travel_and_that_is_told() -> None:
    class Local(Good):
        pass

    (skipped,) = genloom.testing.check(Local).of("not run")
    assert "not at the top of a file" in skipped.seen


def test_a_good_one_trains_the_same_on_one_worker_and_two_at_every_stage() -> None:
    report = genloom.testing.check(Good)
    outcomes = {finding.check: finding.outcome for finding in report.findings[-5:]}
    checks = ("training", "ZeRO stages agree", "workers agree", "buffers agree", "resumes exactly")
    assert outcomes == dict.fromkeys(checks, "passed")


def test_what_no_checkpoint_holds_is_found_out() -> None:
    report = genloom.testing.report(Forgetful)
    told = {finding.check: finding for finding in report.of("failed")}
    assert "differ: seen" in told["buffers agree"].seen
    assert "resumed" in told["resumes exactly"].seen
    assert "buffers of the model" in told["resumes exactly"].remedy
