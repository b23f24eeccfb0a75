"""The order of the stages, and how one is run, skipped or resumed."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.atomic import write_text
from etl.config import Examples
from mews import cache
from mews.config import PipelineConfig, dump
from mews.console import ProgressLine, Terminal
from mews.memory import PeakMemory
from mews.run import PARTS, Run
from training.models.catalog import MODELS


@dataclass(frozen=True)
class Context:
    """What a stage works with."""

    config: PipelineConfig
    run: Run
    terminal: Terminal
    progress: ProgressLine


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    `settings` picks what of the configuration the result depends on, `reads` files outside the run folder that it
    depends on, `packages` the code, `outputs` what it writes. `work` is "module:function" so that a skipped stage
    imports nothing; it returns a JSON object.
    """

    name: str
    needs: tuple[str, ...]
    work: str
    settings: Callable[[PipelineConfig], Sequence[object]]
    outputs: Callable[[Run], Sequence[Path]]
    packages: tuple[str, ...]
    reads: Callable[[PipelineConfig], Iterable[Path]] = lambda config: ()


def _source(config: PipelineConfig) -> Iterable[Path]:
    path = config.data.path
    if path is None or path.exists():
        return [path] if path else []
    return sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))  # a pattern, such as clicks/*.parquet


def _workflow(config: PipelineConfig) -> Iterable[Path]:
    return [Path(config.features.workflow.rpartition(":")[0])] if config.features.workflow else []


def _earlier_model(config: PipelineConfig) -> Iterable[Path]:
    path = config.train.warm_start
    return [path] if path and path.exists() else []


def examples_of(config: PipelineConfig) -> Examples:
    """Return what a row of train, valid and test is: as split.examples says, or as the model's task needs it."""
    task = MODELS[config.model.name].task
    return config.split.examples or (task if task in ("next_item", "item_set") else "rows")


# What changes neither the statistics nor, but for the order and the parts of the files, the features.
_WRITING = {"rows_per_file", "row_group_size", "compression", "shuffle", "engine", "gpu_fallback", "memory_limit"}
_NOT_FITTING = {*_WRITING, "scheduler"}
# What no weight depends on.
_TELLING = {"tensorboard", "mlflow", "worker_timeout"}


_STAGES = (
    Stage(
        "data", (), "mews.stages.data:prepare",
        lambda c: (c.seed, c.data), lambda r: (r.raw,), ("etl",), _source,
    ),
    Stage(
        "validate", ("data",), "mews.stages.data:validate",
        lambda c: (c.validation,), lambda r: (r.validated,), ("etl",),
    ),
    Stage(
        "split", ("validate",), "mews.stages.data:split",
        lambda c: (c.seed, c.split, c.validation, examples_of(c)),
        lambda r: (r.split, r.split_checks, r.profile), ("etl",),
    ),
    Stage(
        "fit", ("split",), "mews.stages.features:fit",
        lambda c: (c.features.model_dump(mode="json", exclude=_NOT_FITTING), c.split.history),
        lambda r: (r.graph,), ("etl",), _workflow,
    ),
    Stage(
        "transform", ("fit", "split"), "mews.stages.features:transform",
        lambda c: (c.features.model_dump(mode="json", include={*_WRITING, "widen"}),),
        lambda r: (*(r.features(part) for part in PARTS), r.features_summary), ("etl",),
    ),
    Stage(
        "train", ("transform",), "mews.stages.model:train",
        lambda c: (c.seed, c.model, c.train.model_dump(mode="json", exclude=_TELLING)),
        lambda r: (r.model,), ("training",), _earlier_model,
    ),
    Stage(
        "evaluate", ("train", "transform", "split"), "mews.stages.model:evaluate",
        lambda c: (c.seed, c.evaluate), lambda r: (r.evaluation,), ("training",),
    ),
    Stage(
        "export", ("evaluate", "fit"), "mews.stages.serving:export",
        # The registry's words are in the model card, which is a file of the version.
        lambda c: (c.export, c.registry.intended_use, c.registry.limits),
        lambda r: (r.onnx, *r.exported, r.examples), ("etl", "training", "ensemble"),
    ),
    Stage(
        "query", ("export",), "mews.stages.serving:query",
        lambda c: (c.serve,), lambda r: (r.parity,), ("ensemble", "triton_models"),
    ),
    Stage(
        "bench", ("export",), "mews.stages.serving:bench",
        lambda c: (c.bench, c.serve), lambda r: (r.bench,), ("ensemble", "triton_models", "benchmarks"),
    ),
)  # fmt: skip

STAGES: dict[str, Stage] = {stage.name: stage for stage in _STAGES}


@dataclass(frozen=True)
class Outcome:
    """One stage's JSON result, the seconds it took when it ran, and whether this run skipped it."""

    result: dict[str, Any]
    seconds: float
    skipped: bool


def run(
    config: PipelineConfig, folder: Run, terminal: Terminal, wanted: Sequence[str], again: Collection[str] = ()
) -> dict[str, Outcome]:
    """Bring every stage in `wanted`, and what they need, up to date; return the outcomes in order.

    Those in `again` run even if nothing has changed.

    The caller holds the folder's lock. A stage that fails leaves the earlier ones done, so that the next run resumes.
    """
    write_text(folder.config, dump(config))
    records: dict[str, cache.Record] = {}
    outcomes: dict[str, Outcome] = {}
    for name in _order(wanted):
        records[name], outcomes[name] = step(name, config, folder, terminal, records, again=name in again)
    return outcomes


def step(
    name: str,
    config: PipelineConfig,
    folder: Run,
    terminal: Terminal,
    records: Mapping[str, cache.Record],
    *,
    again: bool = False,
    title: str = "",
) -> tuple[cache.Record, Outcome]:
    """Bring one stage up to date, given the records of the stages that it needs; `title` names it to the user."""
    stage = STAGES[name]
    key = _key(stage, config, records)
    record = cache.read(folder.stages, name, folder.folder)
    skipped = record is not None and record.key == key and not again
    if record is None or not skipped:
        record = _work(stage, key, config, folder, terminal)
    note = "unchanged, skipped" if skipped else f"{record.seconds:.1f} s"
    terminal.line(f"[bold]{title or name:<10}[/bold] {record.result.get('says', '')}  [dim]{note}[/dim]")
    return record, Outcome(record.result, record.seconds, skipped)


def _order(wanted: Sequence[str]) -> list[str]:
    """Return `wanted` and all they need, in the order of the table above (which is topological)."""
    needed: set[str] = set()
    open_names = list(wanted)
    while open_names:
        name = open_names.pop()
        if name not in needed:
            needed.add(name)
            open_names += STAGES[name].needs
    return [name for name in STAGES if name in needed]


def _key(stage: Stage, config: PipelineConfig, records: Mapping[str, cache.Record]) -> str:
    settings = [
        part.model_dump(mode="json") if hasattr(part, "model_dump") else part for part in stage.settings(config)
    ]
    return cache.digest_of(
        {
            "stage": stage.name,
            "settings": settings,
            "code": cache.digest_code("mews/stages", *stage.packages),
            "needs": {name: records[name].digest for name in stage.needs},
            "reads": cache.digest_files(stage.reads(config)),
        }
    )


def _work(stage: Stage, key: str, config: PipelineConfig, folder: Run, terminal: Terminal) -> cache.Record:
    cache.forget(folder.stages, stage.name)
    started = time.monotonic()
    with terminal.stage(stage.name) as progress, PeakMemory() as memory:
        module, _, function = stage.work.partition(":")
        work = getattr(importlib.import_module(module), function)
        result = work(Context(config, folder, terminal, progress))
    terminal.check()
    result["peak_rss_mb"] = memory.megabytes
    seconds = time.monotonic() - started
    return cache.write(folder.stages, stage.name, key, stage.outputs(folder), folder.folder, result, seconds)
