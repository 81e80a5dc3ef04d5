"""For authors: the conformance kit's trainings, and the scaffold of a new package."""
