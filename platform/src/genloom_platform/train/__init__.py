"""Training. Read `launch.py`, `worker.py`, `loop.py`, `engine.py`, in that order."""
