"""Weights stay in their file, once for all processes of a node."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import nn

from genloom_platform.models import mapped


class Tied(nn.Module):
    """Its two layers share their weights."""

    def __init__(self):
        super().__init__()
        self.into = nn.Linear(64, 64, bias=False)
        self.out = nn.Linear(64, 64, bias=False)
        self.out.weight = self.into.weight


def is_mapped(path):
    return str(path) in Path("/proc/self/maps").read_text()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(nn.Linear(64, 64), str(path))
    return path


def test_they_are_read_from_the_file_and_what_is_written_is_no_part_of_it(file):
    module = nn.Linear(64, 64)
    mapped.give(module, file)
    assert is_mapped(file)
    kept = load_file(file)
    assert torch.equal(module.weight, kept["weight"])
    assert module.weight.requires_grad
    with torch.no_grad():
        module.weight.add_(1)
    assert torch.equal(load_file(file)["weight"], kept["weight"])
    assert not torch.equal(module.weight, kept["weight"])


def test_tied_weights_stay_tied(tmp_path):
    path = tmp_path / "model.safetensors"
    given, module = Tied(), Tied()
    save_model(given, str(path))
    mapped.give(module, path)
    assert module.out.weight is module.into.weight
    assert torch.equal(module.out.weight, given.into.weight)


def test_those_of_another_network_are_refused(file):
    with pytest.raises(RuntimeError, match="size mismatch"):
        mapped.give(nn.Linear(64, 32), file)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        mapped.give(nn.Linear(64, 64, bias=False), file)
