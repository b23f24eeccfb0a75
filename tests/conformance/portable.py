"""The cases as files, so that an environment without NVTabular can run them: one with a GPU.

    python -m tests.conformance.portable write FOLDER           in the main environment
    python -m tests.conformance.portable check FOLDER gpu       in the environment of requirements/etl-gpu.lock

What is written beside each fitted graph and its rows are the features of the CPU's plan, which the other tests hold
equal to NVTabular's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from etl import engine as engines
from etl.compiler import to_polars
from etl.compiler.targets.polars import Engine
from etl.errors import CompileError, ConfigError
from etl.graph import FeatureGraph
from tests.conformance.compare import assert_same, plain


def write(folder: Path, cases: Iterable[Any]) -> int:
    """Write each case without a gap as graph/, rows.parquet and features.json; return how many there are."""
    from tests.conformance.oracle import answer
    from tests.conformance.targets import run_polars

    written = 0
    for case in cases:
        if "polars" in case.gaps:
            continue
        graph, place = answer(case).graph, folder / case.name
        graph.save(place / "graph")
        case.serve.write_parquet(place / "rows.parquet")
        features = {name: plain(values) for name, values in run_polars(graph, case.serve).items()}
        (place / "features.json").write_text(json.dumps(features), encoding="utf-8")
        written += 1
    return written


def check(folder: Path, engine: Engine) -> dict[str, Any]:
    """Return which cases the engine computes rightly (`equal`), refuses beforehand (`refused`) and has `wrong`."""
    found: dict[str, Any] = {"engine": engine, "polars": pl.__version__, "equal": [], "refused": {}, "wrong": {}}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        graph = FeatureGraph.load(place / "graph")
        try:
            engines.check(graph, engine)
        except CompileError as refusal:
            found["refused"][place.name] = [problem.reason for problem in refusal.problems]
            continue
        try:
            _compare(place, graph, engine)
        except (AssertionError, ConfigError, pl.exceptions.PolarsError) as error:
            found["wrong"][place.name] = str(error).splitlines()[0]
        else:
            found["equal"].append(place.name)
    return found


def _compare(place: Path, graph: FeatureGraph, engine: Engine) -> None:
    plan = to_polars(graph, engine=engine)
    made = engines.collect(plan.apply(pl.read_parquet(place / "rows.parquet").lazy()), engine)
    expected = json.loads((place / "features.json").read_text(encoding="utf-8"))
    assert list(expected) == made.columns, f"columns {made.columns}, expected {list(expected)}"
    for name, values in expected.items():
        assert_same(name, values, plain(made[name].to_list()))


def main(arguments: Sequence[str]) -> int:
    """Run one of the two commands; 1 if a case is wrong or none is equal."""
    if len(arguments) == 2 and arguments[0] == "write":
        from tests.conformance.cases import CASES

        sys.stdout.write(f"{write(Path(arguments[1]), CASES)} cases\n")
        return 0
    if len(arguments) == 3 and arguments[0] == "check" and arguments[2] in ("cpu", "gpu"):
        found = check(Path(arguments[1]), "gpu" if arguments[2] == "gpu" else "cpu")
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return int(bool(found["wrong"]) or not found["equal"])
    sys.stderr.write(f"{__doc__}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
