"""Which engine computes a plan: Polars on the CPU, or Polars on an NVIDIA GPU through cudf-polars.

On the GPU nothing falls back to the CPU unless that was asked for. What cannot run there is found before the run, by
operator. The GPU engine has not been run by this project yet; `collect` is the one place that calls it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import polars as pl

from etl.compiler.lowering import lower
from etl.compiler.targets.polars import Engine, spell_for
from etl.errors import CompileError, ConfigError, Problem
from etl.graph import FeatureGraph, OpNode, Ref
from etl.operators import facts

_INSTEAD = "Use the engine cpu, or allow gpu_fallback."


def collect(frame: pl.LazyFrame, engine: Engine = "cpu", gpu_fallback: bool = False) -> pl.DataFrame:
    """Return the rows of `frame`; on the GPU an operation that it does not have is an error, unless `gpu_fallback`."""
    if engine == "cpu":
        return frame.collect()
    try:
        return frame.collect(engine=pl.GPUEngine(raise_on_fail=not gpu_fallback))
    except (NotImplementedError, pl.exceptions.ComputeError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError("the engine gpu cannot run these features", received=said, hint=_INSTEAD) from error


def check(graph: FeatureGraph, engine: Engine, gpu_fallback: bool = False) -> None:
    """Raise before the run: ConfigError without cudf-polars, CompileError with every operator that a GPU cannot run."""
    if engine == "cpu":
        return
    if importlib.util.find_spec("cudf_polars") is None:
        hint = "Install requirements/etl-gpu.lock in a Python 3.12 of its own (docs/etl.md), or use the engine cpu."
        raise ConfigError("the engine gpu", expected="the package cudf-polars", received="none", hint=hint)
    problems = [] if gpu_fallback else list(refused(graph))
    if problems:
        raise CompileError(problems)


def refused(graph: FeatureGraph) -> Iterator[Problem]:
    """Yield a Problem for every operator of a fitted graph that cudf-polars cannot run."""
    refs = [Ref(node.id, column.name) for node in graph.nodes for column in node.outputs]
    exprs, _ = lower(graph, refs, "polars")
    spelled = spell_for(exprs, "gpu")
    seen: set[Ref] = set()
    for node in graph.nodes:
        outputs = [Ref(node.id, column.name) for column in node.outputs]
        slow = {ref for ref in outputs if ref in spelled and _is_python(spelled[ref])}
        if reason := _reason(node, bool(slow) and not seen & set(node.inputs)):
            yield Problem(node.op, tuple(column.name for column in node.outputs), "gpu", reason, _INSTEAD)
        seen |= slow


def _reason(node: OpNode, is_python: bool) -> str:
    if facts(node.op).rows == "regroups":
        return "it works on whole groups of rows."
    if is_python:
        return "it runs a Python function."
    return "cudf-polars has no lists." if any(column.is_list for column in node.outputs) else ""


def _is_python(expr: pl.Expr) -> bool:
    return ".python_udf()" in str(expr)
