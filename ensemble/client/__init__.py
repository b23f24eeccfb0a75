"""Asks a Triton server."""
