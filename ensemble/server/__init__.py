"""Runs Triton: starts it, watches it, ends it with everything it started."""
