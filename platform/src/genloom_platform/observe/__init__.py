"""What a run shows: the display, MLflow, contact sheets."""
