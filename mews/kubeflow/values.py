"""What a cluster has and the pipeline should use: images, GPUs, tries, places."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import Field, ValidationError, field_validator

from etl.errors import ConfigError
from etl.section import Section

_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti|k|M|G|T)?$"


class StepValues(Section):
    """Where one step runs, and what it may use."""

    image: str = Field(min_length=1)
    """An image with `mews` and `python3`: docker/*.Dockerfile."""
    cpu: str = Field(default="2", pattern=_QUANTITY)
    """CPUs that are asked for."""
    memory: str = Field(default="8Gi", pattern=_QUANTITY)
    """Memory: what is asked for, and the limit."""
    gpus: int = Field(default=0, ge=0)
    """GPUs; 0: none."""

    @field_validator("image")
    @classmethod
    def _tagged(cls, image: str) -> str:
        if ":" not in image.rpartition("/")[2] or image.endswith(":latest"):
            raise ValueError("expected a tag or a digest, and not latest")
        return image


def _cpu() -> StepValues:
    return StepValues(image="mews-cpu:0.1.0")


class KubeflowValues(Section):
    """The values of `mews pipeline compile`."""

    name: str = Field(default="mews", pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)
    """Name of the pipeline, of the experiment and of the TFJob."""
    namespace: str = Field(default="kubeflow", pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Namespace of the experiment and of the TFJob."""
    features: StepValues = Field(default_factory=lambda: StepValues(image="mews-cpu:0.1.0", memory="32Gi"))
    """Features; the image needs NVTabular, which reads the workflow."""
    train: StepValues = Field(default_factory=lambda: StepValues(image="mews-train-gpu:0.1.0", gpus=1, memory="32Gi"))
    """Training; also each trial of an experiment and each worker of a TFJob."""
    evaluate: StepValues = Field(default_factory=_cpu)
    """Evaluation."""
    export: StepValues = Field(default_factory=_cpu)
    """Export."""
    promote: StepValues = Field(default_factory=_cpu)
    """Registry and server."""
    gpu_resource: str = Field(default="nvidia.com/gpu", pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    """What the GPUs are called."""
    retries: int = Field(default=2, ge=0, le=20)
    """Tries of a step after the first."""
    backoff: str = Field(default="30s", pattern=r"^[0-9]+s$")
    """Pause before the first of them; it doubles."""
    cache: bool = True
    """Whether steps whose inputs have not changed are skipped."""
    data_uri: str | None = Field(default=None, pattern=r"^(s3|gs|minio|oss)://.+")
    """Raw data in a bucket, read as `data.path`; as `data` of pipeline.yaml says if absent."""
    minimum_auc: float = Field(default=0.5, ge=0, le=1)
    """A model below is not promoted; neither is one that is no better than its best baseline."""
    models_claim: str | None = None
    """The claim that the chart mews serves from; without it nothing is published to a server."""
    triton_url: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.-]+:[0-9]+$")
    """The server (host:port of HTTP) that a promoted version is published to; needs models_claim."""
    runs_claim: str = "mews-runs"
    """The claim with run folders, for the experiment and the TFJob."""
    run: str = Field(default="/work/runs/first", pattern=r"^/")
    """Run folder in it whose features they train on; the claim is mounted at /work."""
    workers: int = Field(default=2, ge=1)
    """Workers of the TFJob."""


def read(path: Path | None) -> KubeflowValues:
    """Return the values of a YAML file, the defaults without one; ConfigError for what they may not be."""
    if path is None:
        return KubeflowValues()
    try:
        found = KubeflowValues.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"values {path}", expected="a readable YAML file", received=str(error)) from None
    except ValidationError as error:
        told = [f"  - {'.'.join(map(str, item['loc']))}: {item['msg'].lower()}" for item in error.errors()]
        listed = "\n".join(told)
        raise ConfigError(f"values {path}: {len(told)} problem(s)\n{listed}\n") from None
    if found.triton_url is not None and found.models_claim is None:
        raise ConfigError("triton_url", expected="also models_claim, which the server reads", received="none")
    return found
