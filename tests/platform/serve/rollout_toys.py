"""Versions of a model whose aliases move, and versions that fail."""

import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import nn

import genloom
from genloom import Text
from genloom_platform.serve.sources import Source


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
        return Source(version, functools.partial(load, version, trainable), 1700000000)

    def promote(self, alias: str, number: int) -> None:
        (self.path / f"{alias}.part").write_text(str(number))
        (self.path / f"{alias}.part").replace(self.path / alias)


def load(version: str, trainable: genloom.Trainable) -> genloom.LoadedModel:
    return genloom.LoadedModel(version, trainable, trainable.build(None).eval(), None)


def unwarm() -> genloom.LoadedModel:
    return load("unwarm@1", Unwarm())
