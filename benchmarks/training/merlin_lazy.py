"""Merlin Models as in merlin.py, with the optimizer that touches the rows of a batch alone.

python -m benchmarks.training.merlin_lazy --data DIR --out DIR
"""

from __future__ import annotations

import sys

from benchmarks.training import Job, Meter, Scores, main
from benchmarks.training.merlin import fit


def train(job: Job, meter: Meter) -> Scores:
    """Merlin's LazyAdam."""
    return fit(job, meter, "lazy_adam")


if __name__ == "__main__":
    sys.exit(main(train))
