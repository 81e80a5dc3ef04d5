"""A team's plugin, written into a folder: a package that nothing has installed."""

import json

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "acme-dots"
version = "VERSION"
requires-python = ">=3.11"
dependencies = REQUIRES

[project.entry-points."genloom.generators"]
acme-dots = "acme_dots:Dots"

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
acme_dots = ["*.bin"]
"""
MODULE = '''
"""Dots that are learnt in no time."""

import os
import time

import torch
from torch import nn

import genloom


class Dots(genloom.Generator):
    """The mean of all pictures."""

    contract = "1.0"
    makes = genloom.Image
    brake: str = ""
    """A file; while it is there, a step takes half a second."""

    class Data(genloom.Data):
        image: genloom.ImageColumn

    def build(self, data):
        model = nn.Module()
        model.mean = nn.Parameter(torch.full((1, 8, 8), 0.5))
        return model

    def prepare(self, row, data):
        return {"x": row["image"].to_chw()}

    def loss(self, model, batch):
        if self.brake and os.path.exists(self.brake):
            time.sleep(0.5)
        x = batch["x"]
        # Of the rows, whatever their order.
        return genloom.Loss((x - model.mean).square().mean(), {"sum": x.double().square().sum()})

    def generate(self, model, prompts):
        noise = [torch.rand((1, 8, 8), generator=torch.Generator().manual_seed(p.seed)) for p in prompts]
        return [genloom.Image.from_chw((model.mean + 0.1 * each).clamp(0, 1)) for each in noise]
'''


def write(
    folder, version="0.4.2", requires=("genloom>=1.0,<2", "torch>=2.6", "a-package-that-no-index-has")
):
    """The plugin's folder."""
    package = folder / "src" / "acme_dots"
    package.mkdir(parents=True)
    project = PROJECT.replace("VERSION", version).replace("REQUIRES", json.dumps(list(requires)))
    (folder / "pyproject.toml").write_text(project)
    (package / "__init__.py").write_text(MODULE)
    return folder
