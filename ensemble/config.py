"""The parts of pipeline.yaml that ensemble reads: export and serve."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from etl.section import Section

Protocol = Literal["http", "grpc"]
"""How a client talks to Triton."""


class ExportConfig(Section):
    """The Triton repository that export writes."""

    name: str = Field(default="mews", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    """Name of the ensemble; composing models are called <name>_features_<version> and so on."""
    fused: bool = False
    """One ONNX graph for preprocessing and model behind the ensemble, instead of two composing models."""
    max_batch_size: int = Field(default=1024, ge=1)
    """Largest number of rows of one request, and of one dynamic batch."""
    preferred_batch_sizes: list[int] = Field(default_factory=list)
    """Batch sizes the dynamic batcher sends at once."""
    max_queue_delay_microseconds: int = Field(default=0, ge=0)
    """How long a request may wait for others to share its batch."""
    instances: int = Field(default=1, ge=1)
    """Execution instances of each composing model."""
    device: Literal["auto", "cpu", "gpu"] = "auto"
    """Instance group kind: auto lets Triton choose (KIND_AUTO)."""
    warmup_rows: int = Field(default=1, ge=0)
    """Real rows that Triton runs through each composing model before it is ready; 0 for none."""
    threads: int = Field(default=1, ge=1)
    """ONNX Runtime threads of one instance."""


class ServeConfig(Section):
    """How the embedded Triton listens."""

    host: str = "127.0.0.1"
    """Address to bind to; anything but a loopback address is open to the network and has no authentication."""
    http_port: int = Field(default=0, ge=0, le=65535)
    """0 chooses a free port."""
    grpc_port: int = Field(default=0, ge=0, le=65535)
    """0 chooses a free port."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """0 chooses a free port."""
    triton_url: str | None = None
    """host:port of a running server's HTTP endpoint, to use instead of the embedded one."""
    triton_grpc_url: str | None = None
    """host:port of its gRPC endpoint; the port after triton_url's if absent, as in Triton's defaults."""
    start_timeout_seconds: float = Field(default=60, gt=0)
    """How long to wait for the server to be ready."""
    exit_timeout_seconds: int = Field(default=10, ge=0)
    """How long requests in flight may take when the server stops."""
