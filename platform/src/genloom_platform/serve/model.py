"""A model as an endpoint serves it: prompts as JSON in, batches through the network, answers out.

It knows neither HTTP nor Ray. `replica.py` runs one in a process of its own.
"""

import re
import types
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, ValidationError

from genloom import (
    Audio,
    ClassColumn,
    Generator,
    Image,
    LoadedModel,
    Predictor,
    Prompt,
    Row,
    RunningBatch,
    Sample,
    Text,
)
from genloom.errors import InvalidConfig, PluginError, Problem, PromptError
from genloom.problems import problems_of
from genloom_platform.serve.errors import listed
from genloom_platform.serve.fields import PromptField, fields_of

if TYPE_CHECKING:
    from genloom_platform.serve.engine import Engine

MAX_MEDIA_BYTES = 256 << 20
"""Decoded media that one request may hold: a small file can claim to be a large picture."""


class Pinned(str):
    """`name@version` where a request named it so: no other version may answer in its place."""


@dataclass(frozen=True)
class Card:
    """What an endpoint tells of a model."""

    name: str
    version: str
    kind: Literal["generator", "predictor"]
    makes: str
    """What a generator makes ("image"), or the column that a predictor answers ("label")."""
    created: int
    """Unix time in seconds."""
    run: str | None
    """The run that made it; None for a model that comes from no registry."""
    prompt_schema: dict[str, Any]
    """The JSON schema of its prompt; what it refers to lies under `#/components/schemas/`."""
    definitions: dict[str, dict[str, Any]]
    """The schemas that it refers to, by their names there."""
    fields: Mapping[str, PromptField]
    """The fields of its prompt by name."""
    running: bool = False
    """Whether prompts can join its batches while these run."""
    pinned: bool = False
    """Whether a request named this very version."""
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """The names of its dataset's classes, by column."""

    @property
    def address(self) -> str:
        """What a backend is asked for."""
        return Pinned(self.full_name) if self.pinned else self.full_name

    @property
    def full_name(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


class Served(ABC):
    """A model that answers prompts."""

    def __init__(self, loaded: LoadedModel, created: int, run: str | None = None) -> None:
        self.loaded = loaded
        self._created, self._run = created, run

    def card(self) -> Card:
        """What to tell of it."""
        name, _, version = self.loaded.name.partition("@")
        prefix = re.sub(r"[^A-Za-z0-9._-]", "_", f"{self.loaded.name}.")
        schema = self.loaded.trainable.Prompt.model_json_schema(
            ref_template=f"#/components/schemas/{prefix}{{model}}"
        )
        definitions = {prefix + key: value for key, value in schema.pop("$defs", {}).items()}
        kind = "generator" if isinstance(self, ServedGenerator) else "predictor"
        fields = fields_of(self.loaded.trainable.Prompt)
        return Card(
            name,
            version,
            kind,
            self._makes(),
            self._created,
            self._run,
            schema,
            definitions,
            fields,
            self.running,
            classes={
                column: facts.names
                for column, facts in self.loaded.data or ()
                if isinstance(facts, ClassColumn)
            },
        )

    @property
    def running(self) -> bool:
        """Whether prompts can join its batches while these run."""
        return False

    def engine(self) -> "Engine | None":
        """What makes the samples in such batches."""
        return None

    def read(self, given: Sequence[Any]) -> list[Prompt]:
        """Prompts from JSON, each checked.

        Raises:
            InvalidConfig: Some are wrong; all that is wrong with any of them is listed.
        """
        prompts: list[Prompt] = []
        problems: list[Problem] = []
        media_bytes = 0
        for index, value in enumerate(given):
            try:
                prompt = self._read_one(value, f"prompts.{index}")
            except InvalidConfig as error:
                problems += error.problems
                continue
            prompts.append(prompt)
            media_bytes += sum(map(_size_bytes, _samples_in(prompt)))
            if media_bytes > MAX_MEDIA_BYTES:
                rule = f"with it the request holds over {MAX_MEDIA_BYTES >> 20} MiB of decoded media"
                problems.append(Problem(f"prompts.{index}", "", rule, "send fewer or smaller ones"))
                break
        if problems:
            raise InvalidConfig(f"the request to {self.loaded.name}", listed(problems))
        return prompts

    def settle(self, given: Sequence[Any]) -> list[Any]:
        """Prompts as they came, checked, each with its seed: answered later, they give the same.

        Raises:
            InvalidConfig: As `read`.
        """
        return [
            {**value, "seed": prompt.seed}
            for value, prompt in zip(given, self.read(given), strict=True)
        ]

    def compute(self, prompts: Sequence[Prompt]) -> list[Any]:
        """A batch of prompts through the network; in the place of each its result, or its exception.

        Where the batch fails, each prompt is tried alone, so that one that the model cannot take
        fails no other caller's.
        """
        import torch

        try:
            with torch.inference_mode():
                results = list(self._compute(prompts))
            if len(results) != len(prompts):
                raise PluginError(
                    f"{self.loaded.name} gave {len(results)} answers to {len(prompts)} prompts"
                )
        except Exception as error:
            if len(prompts) == 1:
                return [error]
            return [self.compute([prompt])[0] for prompt in prompts]
        return results

    @abstractmethod
    def answer(self, prompt: Prompt, result: Any) -> Any:
        """A prompt's result as JSON."""

    @abstractmethod
    def _compute(self, prompts: Sequence[Any]) -> Sequence[Any]: ...

    @abstractmethod
    def _makes(self) -> str: ...

    def _read_one(self, value: Any, where: str) -> Prompt:
        trainable = self.loaded.trainable
        try:
            prompt = trainable.Prompt.model_validate(value)
            trainable.check_prompt(prompt, self.loaded.data)
        except ValidationError as error:
            raise InvalidConfig(where, problems_of(error, trainable.Prompt, where)) from error
        except PromptError as error:
            rule, _, remedy = str(error).rpartition("; ")
            problem = Problem(where, "", rule or remedy, remedy if rule else "change it")
            raise InvalidConfig(where, [problem]) from error
        return prompt


class ServedGenerator(Served):
    """A model that answers with samples."""

    def answer(self, prompt: Prompt, result: Sample) -> Any:
        """The sample, and the prompt that it is of: with its seed and defaults, without its media."""
        return self.head(prompt) | {"sample": result.to_json()}

    def head(self, prompt: Prompt) -> dict[str, Any]:
        """What an answer tells of a prompt: its seed, and itself with its defaults, without its media."""
        media = {name for name, value in prompt if any(_samples_in(value))}
        return {"seed": prompt.seed, "prompt": prompt.model_dump(mode="json", exclude=media)}

    def engine(self) -> "Engine | None":
        """See `Served`."""
        from genloom_platform.serve.engine import Engine

        if not self.running:
            return None
        trainable, module = cast(Generator, self.loaded.trainable), self.loaded.module
        return Engine(lambda: cast(RunningBatch, trainable.running(module)))

    @property
    def running(self) -> bool:
        """See `Served`."""
        import torch

        with torch.inference_mode():
            return cast(Generator, self.loaded.trainable).running(self.loaded.module) is not None

    def pieces(self, prompt: Prompt) -> Iterator[Any]:
        """The sample of a prompt in pieces, each as JSON; closed, it makes no more of them."""
        import torch

        made = iter(cast(Generator, self.loaded.trainable).stream(self.loaded.module, prompt))
        try:
            while True:
                with torch.inference_mode():  # not around a yield: the mode belongs to the thread
                    piece = next(made, None)
                if piece is None:
                    return
                yield piece.to_json()
        finally:
            if isinstance(made, types.GeneratorType):
                made.close()

    def _compute(self, prompts: Sequence[Any]) -> Sequence[Any]:
        return cast(Generator, self.loaded.trainable).generate(self.loaded.module, prompts)

    def _makes(self) -> str:
        return cast(Generator, self.loaded.trainable).makes.__name__.lower()


class ServedPredictor(Served):
    """A model that answers with predictions."""

    def answer(self, prompt: Prompt, result: BaseModel) -> Any:
        """The prediction."""
        return result.model_dump(mode="json")

    def _compute(self, prompts: Sequence[Any]) -> Sequence[Any]:
        predictor = cast(Predictor, self.loaded.trainable)
        examples = [predictor.prepare(_row(prompt), self.loaded.data) for prompt in prompts]
        batch = _placed(predictor.collate(examples), self.loaded.module)
        return predictor.predict(self.loaded.module, batch)

    def _makes(self) -> str:
        return cast(Predictor, self.loaded.trainable).target


def served(loaded: LoadedModel, created: int, run: str | None = None) -> Served:
    """A loaded model as it is served."""
    kind = ServedGenerator if isinstance(loaded.trainable, Generator) else ServedPredictor
    return kind(loaded, created, run)


def whole(pieces: Sequence[Sample]) -> Sample:
    """The sample that pieces make: a text's are joined; of others the last one is the sample."""
    if isinstance(pieces[0], Text):
        return Text("".join(map(str, pieces)))
    return pieces[-1]


def _row(prompt: Prompt) -> Row:
    """A prompt as a row of the dataset: what it leaves open is missing there."""
    values = {name: value for name, value in prompt if value is not None and name != "seed"}
    return Row(values, (prompt.seed,))


def _placed(batch: Mapping[str, Any], module: Any) -> Mapping[str, Any]:
    """A batch on the device of a module's weights."""
    weight = next(module.parameters(), None)
    if weight is None or weight.device.type == "cpu":
        return batch
    return {
        name: value.to(weight.device) if hasattr(value, "to") else value
        for name, value in batch.items()
    }


def _samples_in(value: Any) -> Iterator[Sample]:
    """The media in a prompt or in one of its values; texts are no media."""
    if isinstance(value, Sample):
        if not isinstance(value, Text):
            yield value
    elif isinstance(value, BaseModel):
        for _, inner in value:
            yield from _samples_in(inner)
    elif isinstance(value, Mapping):
        yield from _samples_in(list(cast(Mapping[Any, Any], value).values()))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for inner in cast(Sequence[Any], value):
            yield from _samples_in(inner)


def _size_bytes(sample: Sample) -> int:
    """The memory that a decoded sample takes; a score takes next to nothing."""
    if isinstance(sample, Image):
        return sample.array.nbytes
    return sample.waveform.nbytes if isinstance(sample, Audio) else 0
