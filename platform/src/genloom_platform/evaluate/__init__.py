"""Evaluation, one file for each kind of metric. Read `evaluate.py`."""
