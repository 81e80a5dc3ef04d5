"""Cleaning: what is dropped, by which rule, and what is normalised. What is dropped is quarantined."""
