"""Augmentation of a whole batch, for a training step."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def mixup(
    images: "torch.Tensor",
    targets: "torch.Tensor",
    alpha: float,
    random: "int | np.random.Generator | torch.Generator",
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Every example blended with another of its batch, and its target alike.

    Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", figure 1: one weight for
    the batch, from Beta(alpha, alpha), and one permutation of it.

    Args:
        images: Floats of shape [batch, ...]: pictures, spectrograms or latents.
        targets: Floats of shape [batch, classes], as `one_hot` makes them.
        alpha: How much is blended: the paper's 0.1 to 0.4 for images; 0 is off.
        random: A seed, or a generator; one of another device is waited for.

    Raises:
        ValueError: The tensors are of integers or of two batch sizes, or alpha is negative.
    """
    import torch

    for name, tensor in (("images", images), ("targets", targets)):
        if not tensor.is_floating_point():
            raise ValueError(
                f"the {name} are {tensor.dtype}, and mixup blends floats; "
                + ("use one_hot(labels, num_classes)" if name == "targets" else "scale them to floats")
            )
    batch = images.shape[0]
    if targets.shape[0] != batch or not alpha >= 0:
        raise ValueError(
            f"{batch} images, {targets.shape[0]} targets and alpha = {alpha}: "
            "mixup takes one target for each image, and an alpha of 0 or more"
        )
    if alpha == 0:
        return images, targets
    rng = _numpy_generator(random)
    weight = float(rng.beta(alpha, alpha))
    order = torch.from_numpy(rng.permutation(batch))
    return _blended(images, order, weight), _blended(targets, order, weight)


def one_hot(labels: "torch.Tensor", num_classes: int) -> "torch.Tensor":
    """Class indices, shape [batch], as float32 probabilities, shape [batch, num_classes]."""
    from torch.nn import functional

    return functional.one_hot(labels.long(), num_classes).float()


def _blended(values: "torch.Tensor", order: "torch.Tensor", weight: float) -> "torch.Tensor":
    return weight * values + (1 - weight) * values[order.to(values.device)]


def _numpy_generator(random: "int | np.random.Generator | torch.Generator") -> "np.random.Generator":
    # PyTorch draws from Beta with its global generator only, so one of its own seeds numpy's here.
    import numpy as np
    import torch

    if isinstance(random, torch.Generator):
        drawn = torch.randint(2**63 - 1, (), generator=random, device=random.device)
        return np.random.default_rng(int(drawn))
    return np.random.default_rng(random)
