"""A team's plugin, written into a folder: a package that nothing has installed."""

PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "acme-dots"
version = "0.4.2"
requires-python = ">=3.11"
dependencies = ["genloom>=1.0,<2", "torch>=2.6", "a-package-that-no-index-has"]

[project.entry-points."genloom.generators"]
acme-dots = "acme_dots:Dots"

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
acme_dots = ["*.bin"]
"""
MODULE = '''
"""Dots that are learnt in no time."""

import torch
from torch import nn

import genloom


class Dots(genloom.Generator):
    """Learns the mean of all pictures."""

    class Prompt(genloom.Prompt):
        """No wishes."""

    def build(self):
        model = nn.Module()
        model.mean = nn.Parameter(torch.zeros(()))
        return model

    def prepare(self, row):
        return {"x": torch.tensor(float(row["label"]))}

    def loss(self, model, batch):
        return genloom.Loss((batch["x"] - model.mean).square().mean())

    def generate(self, model, prompts):
        return [genloom.Text(f"{float(model.mean):.3f}") for _ in prompts]
'''


def write(folder):
    """The plugin's folder."""
    package = folder / "src" / "acme_dots"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").write_text(MODULE)
    return folder
