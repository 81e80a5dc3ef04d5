"""DeepSpeed, imported without what takes seconds of each worker's start and no run of ours needs."""

import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def _missing(name: str) -> Generator[None]:
    """Let a module seem not to be installed, where nothing has imported it yet."""
    modules: dict[str, Any] = sys.modules
    if name in modules:
        yield
        return
    modules[name] = None
    try:
        yield
    finally:
        del modules[name]


# Its autotuner, which nobody calls, would import all of MLflow: a second, and 50 MB.
with _missing("mlflow"):
    import deepspeed

# It would compile a shared-memory all-reduce when it starts on a CPU: a minute and a compiler for what only its
# inference calls. There is no setting for it.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
# It would also have torch compile its optimizer Muon, which no run of ours has, to see whether another is one:
# 1.6 s.
with patch("deepspeed.runtime.compiler.compile", lambda: lambda function: function):
    importlib.import_module("deepspeed.runtime.zero.muon.original_muon")

__all__ = ["deepspeed"]
