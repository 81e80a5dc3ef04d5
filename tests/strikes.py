"""Workers that end themselves, by SIGKILL, at an ordered moment: an order lies in a file until one takes it."""

import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import torch.distributed as dist

MOMENTS = ("forward", "backward", "collective", "anywhere")
ANYWHERE_S = 0.05
"""More than a step of the examples takes, so that it may be any moment of it or the next ones."""


def order(plan, rank, moment):
    """Let a rank end itself at a moment of its next loss."""
    draft = Path(plan) / "draft.json"
    draft.write_text(json.dumps([rank, moment]))
    draft.rename(Path(plan) / "strike.json")


def strike(plan, value):
    """A loss's value; the process ends at the ordered moment, where the order is for this rank."""
    path = Path(plan) / "strike.json"
    if not path.exists():
        return value
    rank, moment = json.loads(path.read_text())
    if rank != dist.get_rank():
        return value
    path.rename(Path(plan) / "taken.json")
    if moment == "forward":
        _die()
    elif moment == "backward":
        value.register_hook(lambda gradient: _die())
    elif moment == "collective":
        _die_in_the_next_collective()
    else:
        _die_after(random.uniform(0, ANYWHERE_S))
    return value


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


def _die_after(seconds):
    def wait():
        time.sleep(seconds)
        _die()

    threading.Thread(target=wait).start()


def _die_in_the_next_collective():
    """The others have entered it, or will: it never ends for them."""

    def dying(collective):
        def call(*arguments, **named):
            _die_after(random.uniform(0, 0.002))
            return collective(*arguments, **named)

        return call

    for name in ("all_reduce", "reduce", "reduce_scatter_tensor", "all_gather_into_tensor"):
        setattr(dist, name, dying(getattr(dist, name)))
