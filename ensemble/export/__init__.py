"""Writes features and model as a version of a Triton ensemble."""
