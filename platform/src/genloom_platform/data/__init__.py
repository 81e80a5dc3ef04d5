"""Datasets: import, manifest, shards, order, stream. Read `order.py`, then `stream.py`."""
