"""What is wrong with a machine or a cluster, and what to do. Start reading at `machine.py`, then `nodes.py`."""
