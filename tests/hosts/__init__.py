"""A package, so that its cluster ends with its last test, and does not outlive it beside all others."""
