"""How many jobs an endpoint takes, and how long it keeps them."""

from pydantic import PositiveFloat, PositiveInt

from genloom_platform.settings import Settings


class JobSettings(Settings):
    """Limits of an endpoint's jobs."""

    kept_s: PositiveFloat = 24 * 3600
    """How long a job may wait and run, and how long what it made is kept after it. So long again it is told
    as expired."""
    most_active: PositiveInt = 256
    """Jobs that wait or run at once."""
    most_active_of_caller: PositiveInt = 32
    most_kept: PositiveInt = 1024
    """Jobs in the store, those that ended too."""
    most_kept_of_caller: PositiveInt = 256
    at_once: PositiveInt = 4
    """Jobs that a gateway runs at once; they share batches with direct requests."""
    run_s: PositiveFloat = 6 * 3600
    """How long the model may take over some prompts of a job."""
