"""Training. Read `launch.py`, `attempt.py`, `worker.py`, `loop.py`, `engine.py`, in that order."""
