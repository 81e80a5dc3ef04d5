"""Jobs: commands that a laptop sends to a cluster. Start reading at `submit.py`. Imports nothing that trains."""
