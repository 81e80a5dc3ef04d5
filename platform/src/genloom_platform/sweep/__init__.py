"""Sweeps: many runs over a search space, scheduled by Ray Tune."""
