"""Serving: registered models as an HTTP endpoint, on Ray Serve. Read `app.py` first."""
