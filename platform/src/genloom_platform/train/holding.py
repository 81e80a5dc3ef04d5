"""What of a model's state lies on this rank: the one place that knows how DeepSpeed's stages lay it out.

At every stage it is said in the same words: a flat tensor of master weights, the optimizer's state of it,
and which elements of which parameter stand where. So a checkpoint is the same at every ZeRO stage and for
every number of workers, and each rank takes from it what it needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Piece:
    """Consecutive elements of a parameter, and where they lie in a flat tensor."""

    name: str
    """The parameter's."""
    start: int
    """The first element, of the flattened parameter."""
    offset: int
    """Its place in the flat tensor."""
    numel: int

    def share(self, rank: int, world: int) -> "Piece":
        """The part of it that a rank saves, where all ranks hold the whole."""
        first, last = self.numel * rank // world, self.numel * (rank + 1) // world
        return Piece(self.name, self.start + first, self.offset + first, last - first)


@dataclass(frozen=True)
class Held:
    """A flat tensor on this rank."""

    tensor: Tensor
    """Master weights, as the optimizer has them: a whole parameter, or a flat partition."""
    state: dict[str, Any]
    """The optimizer's state of it, by key; empty until its first step."""
    pieces: tuple[Piece, ...]
    """The parameters' elements in it."""
    whole: bool
    """Whether every rank holds the same."""
    trained: bool = True

    @property
    def weights(self) -> Tensor:
        """The master weights in one dimension; what is written there, the model has."""
        return self.tensor.view(-1)


def held(engine: Any, trained: Sequence[nn.Parameter], names: Mapping[int, str]) -> Iterator[Held]:
    """What this rank holds of the module that a DeepSpeed engine trains.

    Args:
        engine: DeepSpeed's.
        trained: The parameters that its optimizer trains; the others of the module are frozen.
        names: The parameters' names in the model, by identity.
    """
    stage = engine.zero_optimization_stage()
    if stage == 0:
        state = engine.basic_optimizer.state
        for parameter in trained:
            piece = Piece(names[id(parameter)], 0, 0, parameter.numel())
            yield Held(parameter.data, state[parameter], (piece,), whole=True)
    elif stage < 3:
        yield from _partitions(engine.optimizer, names)
    else:
        yield from _sub_groups(engine.optimizer, names)
    known = {id(parameter) for parameter in trained}
    for parameter in engine.module.parameters():
        if id(parameter) not in known and id(parameter) in names:
            yield _frozen(parameter, names[id(parameter)])


def refresh(engine: Any) -> None:
    """Bring the model's weights up to date with the master weights, after these were set."""
    stage, optimizer = engine.zero_optimization_stage(), engine.optimizer
    if stage in (1, 2):
        optimizer.update_lp_params()
    if stage == 3:
        for number, master in enumerate(optimizer.fp32_partitioned_groups_flat):
            if master.numel():
                optimizer.fp16_partitioned_groups_flat[number].data.copy_(master.data)
            optimizer._unflatten_partitioned_parameters(number)
        persistent = optimizer.persistent_parameters
        if persistent:
            # They are kept whole, and were gathered before the partitions were set.
            persistent[0].partition(persistent)
            persistent[0].all_gather(persistent)


def _partitions(optimizer: Any, names: Mapping[int, str]) -> Iterator[Held]:
    """Stages 1 and 2: a group's parameters are laid end to end, and each rank has one partition of that."""
    for flat, group in zip(
        optimizer.single_partition_of_fp32_groups, optimizer.bit16_groups, strict=True
    ):
        pieces: list[Piece] = []
        for parameter in group:
            place = parameter._hp_mapping
            if place is not None:
                inside, outside = place.lp_fragment_address, place.hp_fragment_address
                pieces.append(Piece(names[id(parameter)], inside.start, outside.start, inside.numel))
        yield Held(flat.data, optimizer.optimizer.state[flat], tuple(pieces), whole=False)


def _sub_groups(optimizer: Any, names: Mapping[int, str]) -> Iterator[Held]:
    """Stage 3: each rank has a partition of every parameter, and those of a sub-group lie end to end."""
    for flat, group in zip(optimizer.fp32_partitioned_groups_flat, optimizer.fp16_groups, strict=True):
        pieces: list[Piece] = []
        for parameter in group:
            _, offset, numel = optimizer.grad_position[optimizer.get_param_id(parameter)]
            piece = piece_of_partition(parameter, names[id(parameter)], offset, numel)
            pieces += [piece] if piece.numel else []
        yield Held(flat.data, optimizer.optimizer.state[flat], tuple(pieces), whole=False)


def _frozen(parameter: Any, name: str) -> Held:
    if hasattr(parameter, "ds_tensor"):
        flat = parameter.ds_tensor.data.view(-1)
        return Held(flat, {}, (piece_of_partition(parameter, name, 0, flat.numel()),), False, False)
    flat = parameter.data.view(-1)
    return Held(flat, {}, (Piece(name, 0, 0, flat.numel()),), True, False)


def piece_of_partition(parameter: Any, name: str, offset: int, numel: int) -> Piece:
    """This rank's partition of a parameter, without the padding that fills the last one up."""
    start = torch.distributed.get_rank() * parameter.ds_tensor.ds_numel
    return Piece(name, start, offset, max(0, min(numel, parameter.ds_numel - start)))
