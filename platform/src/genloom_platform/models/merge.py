"""An adapter and its base as one model that needs no other."""

from pathlib import Path

from genloom_platform.models import cache, release
from genloom_platform.models.release import Release
from genloom_platform.store import Store


def merge(store: Store, made: Release, local: Path) -> Release:
    """Write whole weights, with the adapter's added to its base's, to a file.

    Args:
        store: Where both are.
        made: The adapter's release.
        local: The file to write.

    Returns:
        The same release with these weights. It still names its parent, and needs nothing of it.

    Raises:
        DataError: The base is not the one that the adapter was made for, or either is damaged.
    """
    from safetensors.torch import save_model

    save_model(release.load(store, made)[1], str(local))
    return made.model_copy(
        update={
            "adapter": None,
            "weights_sha256": cache.digest(local),
            "weights_bytes": local.stat().st_size,
        }
    )
