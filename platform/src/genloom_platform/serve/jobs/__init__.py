"""Long jobs: a request that is answered later. Read `desk.py`, then `runner.py`."""
