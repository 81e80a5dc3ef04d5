"""Released weights and the registry that names them. Read `release.py`, `registry.py`, then `publish.py`."""
