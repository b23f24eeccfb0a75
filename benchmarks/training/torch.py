"""PyTorch by hand: a sparse Embedding for every column with SparseAdam, Adam for the layers. Its own environment.

PYTHON -m benchmarks.training.torch --data DIR --out DIR
"""

from __future__ import annotations

import itertools
import queue
import sys
import threading
from typing import Any

import numpy as np

from benchmarks.training import (
    BOTTOM,
    CODES,
    LEARNING_RATE,
    TEMPERATURE,
    TOP,
    TOWER,
    USER_CODES,
    USER_VALUES,
    VALUES,
    Job,
    Meter,
    Scores,
    main,
)
from benchmarks.training.rows import batches

_AHEAD = 4


def train(job: Job, meter: Meter) -> Scores:
    """One pass; rows are read ahead in a thread."""
    import torch

    torch.manual_seed(job.seed)
    network = _dlrm(job) if job.model == "dlrm" else _two_tower(job)
    tables = list(network.tables.parameters())
    layers = [each for name, each in network.named_parameters() if not name.startswith("tables.")]
    optimizers = torch.optim.SparseAdam(tables, LEARNING_RATE), torch.optim.Adam(layers, LEARNING_RATE)
    seen = 0
    for codes, values, labels in _ahead(job):
        loss = network.loss(codes, values, labels)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        seen += len(labels)
        meter(seen)
    with torch.no_grad():
        found = [network(*map(torch.from_numpy, each[:2])).numpy() for each in batches(job.valid, 16_384)]
    return np.concatenate(found)


def _ahead(job: Job) -> Any:
    import torch

    made: queue.Queue[Any] = queue.Queue(_AHEAD)

    def read() -> None:
        for batch in batches(job.train, job.batch, job.seed):
            made.put([torch.from_numpy(np.ascontiguousarray(array)) for array in batch])
        made.put(None)

    threading.Thread(target=read, daemon=True).start()
    return iter(made.get, None)


def _tables(job: Job) -> Any:
    from torch import nn

    tables = nn.ModuleList([nn.Embedding(job.cardinality, job.dim, sparse=True) for _ in CODES])
    for table in tables:
        nn.init.uniform_(table.weight, -0.05, 0.05)
    return tables


def _layers(*widths: int, last: bool) -> Any:
    """Linear layers with ReLU between them, and after the last one if asked for."""
    from torch import nn

    made: list[Any] = []
    for before, after in itertools.pairwise(widths):
        made += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*(made if last else made[:-1]))


def _dlrm(job: Job) -> Any:
    import torch
    from torch import nn

    class Dlrm(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            count = len(CODES) + 1
            self.tables = _tables(job)
            self.bottom = _layers(len(VALUES), BOTTOM, job.dim, last=True)
            self.top = _layers(job.dim + count * (count - 1) // 2, *TOP, 1, last=False)
            rows, columns = torch.triu_indices(count, count, 1)
            self.pairs = rows * count + columns

        def forward(self, codes: Any, values: Any) -> Any:
            bottom = self.bottom(values)
            stacked = torch.stack([bottom, *(table(codes[:, at]) for at, table in enumerate(self.tables))], 1)
            dots = torch.bmm(stacked, stacked.transpose(1, 2)).flatten(1)
            return self.top(torch.cat([bottom, dots.index_select(1, self.pairs)], 1))[:, 0]

        def loss(self, codes: Any, values: Any, labels: Any) -> Any:
            return nn.functional.binary_cross_entropy_with_logits(self(codes, values), labels)

    return Dlrm()


def _two_tower(job: Job) -> Any:
    import torch
    from torch import nn

    class TwoTower(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.tables = _tables(job)
            users, items = USER_CODES * job.dim, (len(CODES) - USER_CODES) * job.dim
            self.users = _layers(users + USER_VALUES, TOWER, job.dim, last=False)
            self.items = _layers(items + len(VALUES) - USER_VALUES, TOWER, job.dim, last=False)

        def vectors(self, codes: Any, values: Any) -> list[Any]:
            found = [table(codes[:, at]) for at, table in enumerate(self.tables)]
            users = self.users(torch.cat([*found[:USER_CODES], values[:, :USER_VALUES]], 1))
            items = self.items(torch.cat([*found[USER_CODES:], values[:, USER_VALUES:]], 1))
            return [nn.functional.normalize(side, dim=1) for side in (users, items)]

        def forward(self, codes: Any, values: Any) -> Any:
            users, items = self.vectors(codes, values)
            return (users * items).sum(1)

        def loss(self, codes: Any, values: Any, labels: Any) -> Any:
            users, items = self.vectors(codes, values)
            return nn.functional.cross_entropy(users @ items.T / TEMPERATURE, torch.arange(len(labels)))

    return TwoTower()


if __name__ == "__main__":
    sys.exit(main(train))
