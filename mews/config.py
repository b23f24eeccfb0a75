"""pipeline.yaml: read, checked, shown and described."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from ensemble.config import ExportConfig, ServeConfig
from etl.config import DataConfig, FeaturesConfig, SplitConfig, ValidationConfig
from etl.errors import ConfigError
from etl.section import Section
from training.config import EvaluateConfig, ModelConfig, TrainConfig
from training.registry.config import RegistryConfig, without_secrets
from training.tuning.config import TuneConfig

_DATABASE = "sqlite:///"


class BenchConfig(Section):
    """What perf_analyzer measures."""

    concurrency: list[int] = Field(default=[1, 4, 16], min_length=1)
    """Clients that send at the same time."""
    batch: list[int] = Field(default=[1, 64], min_length=1)
    """Rows of one request."""
    protocols: list[str] = Field(default=["http"], min_length=1)
    """http, grpc or both."""
    seconds: float = Field(default=0.9, gt=0)
    """Time for one load of one target."""
    repeats: int = Field(default=1, ge=1)
    """How often everything is measured; figures are medians."""
    stock: bool = True
    """Measure stock Merlin Systems' preprocessing as a baseline in the same run."""

    @field_validator("protocols")
    @classmethod
    def _known(cls, protocols: list[str]) -> list[str]:
        unknown = sorted(set(protocols) - {"http", "grpc"})
        if unknown:
            raise ValueError(f"expected http and grpc, received {', '.join(unknown)}")
        return protocols


class PipelineConfig(Section):
    """The whole of pipeline.yaml; every key has a default."""

    seed: int = Field(default=7, ge=0)
    """Fixes the generated data, the samples and the training."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Where the rows come from."""
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    """When data is refused."""
    split: SplitConfig = Field(default_factory=SplitConfig)
    """How rows are divided into train, valid and test."""
    features: FeaturesConfig = Field(default_factory=FeaturesConfig)
    """The feature graph."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """Which model is trained, and how."""
    train: TrainConfig = Field(default_factory=TrainConfig)
    """How training runs."""
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    """How the model is judged."""
    tune: TuneConfig = Field(default_factory=TuneConfig)
    """How its settings are searched."""
    registry: RegistryConfig = Field(default_factory=RegistryConfig)
    """Where models are registered, and when one is promoted."""
    export: ExportConfig = Field(default_factory=ExportConfig)
    """The Triton repository."""
    serve: ServeConfig = Field(default_factory=ServeConfig)
    """How the embedded Triton listens."""
    bench: BenchConfig = Field(default_factory=BenchConfig)
    """What perf_analyzer measures."""


def load(path: Path | None = None, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read `path` (defaults if None), apply `section.key=value` overrides (values are YAML), and check all of it.

    A relative path in it is relative to the file's folder, in an override to the current one; the result holds absolute
    ones. Raises ConfigError that lists every problem with the nearest known key.
    """
    tree = _read(path) if path is not None else {}
    if path is not None:
        _anchor(tree, path.resolve().parent)
    for override in overrides:
        _assign(tree, override)
    _anchor(tree, Path.cwd())
    return checked(tree, f"configuration {path}" if path else "configuration")


def checked(tree: Mapping[str, Any], subject: str) -> PipelineConfig:
    """Return the configuration that the values `tree` say; ConfigError, of `subject`, lists every problem."""
    try:
        return PipelineConfig.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, subject) from None


def dump(config: PipelineConfig) -> str:
    """Return `config` as YAML with every default spelled out; `load` reads it back to an equal configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of pipeline.yaml, for editors."""
    return PipelineConfig.model_json_schema()


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"configuration {path}", expected="a file", received="nothing there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration {path}", expected="a readable UTF-8 file", received=str(error)) from None
    except yaml.YAMLError as error:
        where = str(error).replace("\n", " ")
        raise ConfigError(f"configuration {path}", expected="YAML", received=where) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"configuration {path}", expected="keys and values", received=type(tree).__name__)
    return tree


def _assign(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError("--set", expected="section.key=value", received=repr(override))
    *sections, leaf = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override}", expected=f"{section} to be a section", received=repr(tree))
    try:
        tree[leaf] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}", expected="a YAML value", received=str(error)) from None


def _anchor(tree: dict[str, Any], folder: Path) -> None:
    """Make the relative paths in `tree` absolute, so that it means the same wherever it is read again."""
    for section, key in (("data", "path"), ("features", "workflow"), ("train", "warm_start"), ("train", "tensorboard")):
        found = tree.get(section)
        if isinstance(found, dict) and isinstance(found.get(key), str) and found[key]:
            found[key] = str(folder / found[key])
    serve = tree.get("serve")
    if isinstance(serve, dict) and isinstance(keys := serve.get("trusted_keys"), list):
        serve["trusted_keys"] = [str(folder / key) if isinstance(key, str) else key for key in keys]
    for section, key in (("registry", "uri"), ("train", "mlflow")):
        found = tree.get(section)
        if isinstance(found, dict) and isinstance(uri := found.get(key), str) and uri.startswith(_DATABASE):
            found[key] = f"{_DATABASE}{folder / uri.removeprefix(_DATABASE)}"


def _explain(error: ValidationError, subject: str) -> ConfigError:
    problems = [_describe(item["loc"], item["type"], item["msg"], item.get("input")) for item in error.errors()]
    listed = "\n".join(f"  - {problem}" for problem in problems)
    return ConfigError(f"{subject}: {len(problems)} problem(s)\n{listed}\n")


def _describe(location: tuple[int | str, ...], kind: str, message: str, received: object) -> str:
    key = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        known = list(_fields_at(location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}."
        return f"{key}: unknown key; {hint}"
    shown = without_secrets(json.dumps(received, default=str))
    return f"{key}: {message[0].lower()}{message[1:]}; received {shown}"


def _fields_at(location: Iterable[int | str]) -> Iterable[str]:
    """Names of the keys allowed at `location`, following sections, lists and mappings of sections."""
    model: type[BaseModel] = PipelineConfig
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            inner = _section_in(model.model_fields[part].annotation)
            if inner is None:
                return ()
            model = inner
    return model.model_fields


def _section_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (found := _section_in(argument)) is not None:
            return found
    return None
