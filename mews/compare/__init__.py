"""Models and baselines on one split, in one table with intervals."""
