"""One import as a process of its own, for its memory to be watched: SOURCE STORE NAME."""

import sys

from genloom_platform.data.imports import import_dataset
from genloom_platform.store import Store


def main() -> None:
    """Import class folders of pictures on a cluster of this machine."""
    source, store, name = sys.argv[1:]
    try:
        manifest = import_dataset(Store(store), "imagefolder", source, name, {}, on_cluster=True)
    except KeyboardInterrupt:
        sys.exit(130)
    print(manifest.full_name, sum(manifest.splits.values()))


if __name__ == "__main__":
    main()
