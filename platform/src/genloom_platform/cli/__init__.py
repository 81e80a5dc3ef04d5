"""The command line, one file a noun. `app.py` puts it together."""
