"""Everything that runs on the cluster. Start reading at `cli/train.py`."""
