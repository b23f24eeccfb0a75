"""The steps of the pipeline: what each runs, gets and leaves. Imports nothing of Mews, for kfp's Python reads it too.

An artifact is a part of the run folder, with the records of the stages that made it, so that the next step finds them
done.
"""

from __future__ import annotations

from dataclasses import dataclass

CONFIG, DATA = "config", "data"


@dataclass(frozen=True)
class Artifact:
    """One part of the run folder: its type in kfp, and the paths that it holds."""

    kind: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One container: commands of `mews`, artifacts it reads and writes, and whether an equal one may be skipped."""

    commands: tuple[tuple[str, ...], ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    metrics: bool = False
    parameters: tuple[str, ...] = ()
    cached: bool = True


def _records(*stages: str) -> tuple[str, ...]:
    return tuple(f".stages/{stage}.json" for stage in stages)


ARTIFACTS = {
    "features": Artifact("Dataset", ("data", "features", *_records("data", "validate", "split", "fit", "transform"))),
    "model": Artifact("Model", ("model", *_records("train"))),
    "evaluation": Artifact("Artifact", ("evaluation", *_records("evaluate"))),
    "repository": Artifact("Model", ("repository", "onnx", "examples", *_records("export"))),
}

STEPS = {
    "features": Step((("etl", "transform"),), (), ("features",)),
    "train": Step((("train",),), ("features",), ("model",)),
    "evaluate": Step((("evaluate",),), ("features", "model"), ("evaluation",), metrics=True),
    "export": Step((("export",),), ("features", "model", "evaluation"), ("repository",)),
    "promote": Step(
        (("models", "register"), ("models", "promote"), ("export",), ("versions", "publish")),
        ("features", "model", "evaluation"),
        parameters=("registry_uri", "triton_url"),
        cached=False,
    ),
}
PROMOTE, STOP = "promote", "stop"
