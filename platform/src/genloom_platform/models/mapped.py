"""Weights in a module, as they lie in a file."""

from pathlib import Path
from typing import Any


def give(module: Any, file: Path) -> None:
    """Give a module the weights of a file, which stay in it: processes of one node hold them once in memory.

    Who writes to one gets a copy of what is written; the file stays as it is. Where weights share their values,
    as tied ones do, all are copied: the file has those once, and the module under several names.

    Args:
        module: A torch module.
        file: Its weights as safetensors.

    Raises:
        RuntimeError: The file is of another network.
    """
    from safetensors.torch import load_file, load_model

    kept, own = load_file(file), module.state_dict()
    if _kinds(kept) == _kinds(own):
        module.load_state_dict(kept, assign=True)
    else:
        load_model(module, file)


def _kinds(state: dict[str, Any]) -> dict[str, Any]:
    return {name: (value.shape, value.dtype) for name, value in state.items()}
