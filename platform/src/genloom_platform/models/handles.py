"""Registered models in team code: `session.models`, with the words of `genloom models`.

studio.models["image-vae@champion"].generate(label=3)
studio.models.compare("image-vae@1", "image-vae@2")
studio.models.promote("image-vae@2", "champion")
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import genloom
from genloom import Prompt
from genloom.asked import prompts_of
from genloom.errors import PromptError
from genloom.made import Samples
from genloom.problems import problems_of
from genloom_platform.models import aliases, archive, card, loading, removal, unpack
from genloom_platform.models.archive import Archive
from genloom_platform.models.compare import Comparison, compare
from genloom_platform.models.lineage import Node, endpoints, lineage
from genloom_platform.models.registry import Registry, Version
from genloom_platform.store import Store


class Models(Mapping[str, "ModelHandle"]):
    """The registered models of a store, by `name`, `name@number` or `name@alias`."""

    def __init__(self, store: Store) -> None:
        self._store, self._registry = store, Registry(store)

    def __getitem__(self, reference: str) -> "ModelHandle":
        return ModelHandle(self._store, self._registry.find(reference))

    def __iter__(self) -> Iterator[str]:
        return iter(self._registry.names())

    def __len__(self) -> int:
        return len(self._registry.names())

    def list(self, name: str | None = None) -> "list[ModelHandle]":
        """Every version of a model, or of all, the newest first."""
        return [ModelHandle(self._store, version) for version in self._registry.versions(name)]

    def compare(self, one: str, other: str) -> Comparison:
        """Two versions side by side."""
        return compare(self._store, one, other)

    def promote(
        self, model: str, alias: str = aliases.DEFAULT, expected: int | None = None
    ) -> "ModelHandle":
        """Let an alias name a version; see `aliases.promote`."""
        return self._handle(aliases.promote(self._store, model, alias, expected))

    def rollback(self, name: str, alias: str = aliases.DEFAULT) -> "ModelHandle":
        """Let an alias name the version that it named before; see `aliases.rollback`."""
        return self._handle(aliases.rollback(self._store, name, alias))

    def retire(self, name: str, alias: str) -> None:
        """Let an alias name nothing any more."""
        aliases.retire(self._store, name, alias)

    def tag(self, model: str, set: Mapping[str, str], remove: Sequence[str] = ()) -> "ModelHandle":
        """Write tags to a version, and take others away."""
        return self._handle(self._registry.tag(self._registry.find(model), set, tuple(remove)))

    def export(self, model: str, file: str | Path) -> Archive:
        """Write a version to one file; see `archive.export`."""
        return archive.export(self._store, model, Path(file))

    def import_(self, file: str | Path, name: str | None = None) -> "ModelHandle":
        """Register a version that was exported from another store; see `unpack.import_`."""
        return self._handle(unpack.import_(self._store, Path(file), name))

    def delete(self, model: str) -> None:
        """Delete a version that nothing uses; see `removal.delete`."""
        removal.delete(self._store, model)

    def _handle(self, version: Version) -> "ModelHandle":
        return ModelHandle(self._store, version)


class ModelHandle:
    """A version of a model."""

    def __init__(self, store: Store, version: Version) -> None:
        self._store, self.version = store, version
        self.name = version.full_name
        self.metrics = version.metrics
        """By name; a number that has one carries its interval as `low` and `high`."""
        self.tags = version.tags
        self.aliases = version.aliases

    @property
    def lineage(self) -> Node:
        """Where it comes from, down to the source of its data."""
        return lineage(self._store, self.version)

    @property
    def endpoints(self) -> "list[Node]":
        """The endpoints that serve it now."""
        return endpoints(self._store, self.version)

    @property
    def card(self) -> str:
        """Its model card, as Markdown."""
        return card.read(self._store, self.version)

    @cached_property
    def loaded(self) -> genloom.LoadedModel:
        """Its generator and module."""
        return loading.load_version(self._store, self.version)

    def generate(
        self,
        prompts: Sequence[Prompt | Mapping[str, Any]] | None = None,
        *,
        count: int = 1,
        **fields: Any,
    ) -> Samples:
        """Make samples in this process; the arguments are those of an endpoint's models.

        Raises:
            PromptError: A prompt that the model cannot answer.
        """
        import torch

        generator = self.loaded.trainable
        if not isinstance(generator, genloom.Generator):
            raise PromptError(f"{self.name} is a predictor; it labels and makes no samples")
        asked = prompts_of(prompts, count, fields)
        checked = [check_prompt(generator, prompt, self.loaded.data) for prompt in asked]
        with torch.inference_mode():
            made = generator.generate(self.loaded.module, checked) if checked else []
        return Samples(made, [prompt.seed for prompt in checked], self.name)


def check_prompt(trainable: genloom.Trainable, prompt: Prompt | Mapping[str, Any], data: Any) -> Prompt:
    """A caller's prompt as the generator's own type.

    Raises:
        PromptError: All that is wrong with it.
    """
    if not isinstance(prompt, Prompt):
        try:
            prompt = type(trainable).Prompt.model_validate(dict(prompt))
        except ValidationError as error:
            problems = problems_of(error, type(trainable).Prompt)
            raise PromptError("the prompt is wrong: " + "; ".join(map(str, problems))) from error
    trainable.check_prompt(prompt, data)
    return prompt
