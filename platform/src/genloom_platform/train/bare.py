"""A model without DeepSpeed's hooks, to be called on one rank alone while it trains at ZeRO-3.

There every forward gathers weights, and waits for ranks that do not call it.
"""

import copy

import torch
from torch import Tensor, nn


def outline(model: nn.Module) -> nn.Module:
    """A copy of a model on torch's meta device, which takes no memory; made before DeepSpeed has the model."""
    memo: dict[int, Tensor] = {
        id(parameter): nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        for parameter in model.parameters()
    }
    memo |= {id(buffer): buffer.detach().to("meta") for buffer in model.buffers()}
    return copy.deepcopy(model, memo)


@torch.no_grad()
def filled(outline: nn.Module, model: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the outline with the whole weights of a model, in evaluation mode."""
    made = copy.deepcopy(outline).to_empty(device=device)
    for ours, theirs in (
        (made.named_parameters(), dict(model.named_parameters())),
        (made.named_buffers(), dict(model.named_buffers())),
    ):
        for name, tensor in ours:
            tensor.copy_(theirs[name])
    return made.eval()
