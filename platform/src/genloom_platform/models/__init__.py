"""Released weights and the registry that names them. Read `release.py`, then `registry.py`."""
