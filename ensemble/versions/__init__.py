"""Changes the version that a running Triton serves: tried beside the old one first, then switched in one step."""
