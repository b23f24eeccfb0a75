"""The parts of pipeline.yaml that ensemble reads: export and serve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, StrictFloat, StrictInt, StrictStr, model_validator

from ensemble.scheduling import Device, PlacementConfig, SchedulingConfig
from etl.requests import RequestForm
from etl.section import Section

Protocol = Literal["http", "grpc"]
"""How a client talks to Triton."""

Shape = Literal["chained", "fused", "split"]
"""How preprocessing and model become Triton models."""

Precision = Literal["float32", "float16", "float16_tables", "int8", "int8_static", "int8_tables", "extended"]
"""The number types of a model's weights and arithmetic; see docs/variants.md."""

Signature = Literal["named", "packed"]
"""How a request's columns become tensors."""


class ColumnRequest(Section):
    """How one raw column arrives in a request; see docs/requests.md."""

    dtype: str | None = None
    """Another width: any integer type for an integer; float16, float32 or float64 for a float."""
    null: StrictInt | StrictFloat | StrictStr | None = None
    """`mask` for an input <column>__null, or a value that means null; what means it anyway still does."""
    list: Literal["padded", "offsets"] = "padded"
    """A list as <column> and <column>__length, or as <column>__values and <column>__offsets."""
    datetime: Literal["s", "ms", "us", "ns", "iso"] = "us"
    """Since 1970-01-01 UTC in this unit, or as ISO 8601 text."""
    optional: bool = False
    """The column may be left out of a request, and is then null."""

    @model_validator(mode="before")
    @classmethod
    def _yaml(cls, keys: Any) -> Any:
        """In YAML the key `null` is not the word but nothing."""
        return (
            {"null" if key is None else key: value for key, value in keys.items()} if isinstance(keys, dict) else keys
        )

    @property
    def form(self) -> RequestForm:
        """The same as the compiler and the client want it."""
        mask = self.null == "mask"
        null = None if mask else self.null
        return RequestForm(self.dtype, mask, null, self.list == "offsets", self.datetime, self.optional)


class ExportConfig(Section):
    """The Triton repository that export writes."""

    name: str = Field(default="mews", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")
    """Name of the ensemble; composing models are called <name>_features_<version> and so on."""
    shape: Shape = "chained"
    """Preprocessing and model apart, as one graph, or with the model cut too; see docs/deployment-shapes.md."""
    signature: Signature = "named"
    """An input for each column, or at most three that hold all columns of a kind of type."""
    split: Literal["auto"] | dict[str, list[str]] = "auto"
    """Where shape: split cuts the model: `auto`, or by role the tensors it makes, or the inputs that it alone reads."""
    max_batch_size: int = Field(default=1024, ge=0)
    """Largest number of rows of one request, and of one dynamic batch; 0 for requests of any size, each run alone."""
    preferred_batch_sizes: list[int] = Field(default_factory=list)
    """Batch sizes the dynamic batcher sends at once."""
    max_queue_delay_microseconds: int = Field(default=0, ge=0)
    """How long a request may wait for others to share its batch."""
    instances: int = Field(default=1, ge=1)
    """Execution instances of each composing model."""
    device: Device = "auto"
    """Instance group kind: auto lets Triton choose (KIND_AUTO), model lets the backend."""
    warmup_rows: int = Field(default=1, ge=0)
    """Real rows that Triton runs through each composing model before it is ready; 0 for none."""
    threads: int = Field(default=1, ge=1)
    """ONNX Runtime threads of one instance."""
    vocabularies: Literal["inline", "mapped"] = "inline"
    """`mapped`: those of a million integers and more in a file that is mapped, not read; see docs/large-models.md."""
    precision: Precision = "float32"
    """The model's number types, or `extended` for nodes joined for this machine; see docs/variants.md."""
    max_auc_drop: float = Field(default=0.001, ge=0)
    """How much AUC on the held-out rows another precision may cost; one that costs more is refused."""
    scheduling: SchedulingConfig = Field(default_factory=SchedulingConfig)
    """Priorities, timeouts and queues; see docs/scheduling.md."""
    placement: dict[str, PlacementConfig] = Field(default_factory=dict)
    """Instances, device and threads of one composing model, by its role: features, model, fused and so on."""
    stable: bool = True
    """The new version serves at the next start; false leaves that to `mews versions publish`, see docs/versions.md."""
    sign: bool = False
    """Sign the version with the key in MEWS_SIGNING_KEY, or in the file that MEWS_SIGNING_KEY_FILE names."""
    requests: dict[str, ColumnRequest] = Field(default_factory=dict)
    """How raw columns arrive, by name; a column that is not named arrives as docs/requests.md says."""

    @model_validator(mode="before")
    @classmethod
    def _before_shapes(cls, keys: Any) -> Any:
        """Configurations of runs from before there were shapes say `fused`."""
        if not isinstance(keys, dict) or not isinstance(keys.get("fused"), bool):
            return keys
        kept = {key: value for key, value in keys.items() if key != "fused"}
        return {"shape": "fused" if keys["fused"] else "chained", **kept}

    @property
    def forms(self) -> Mapping[str, RequestForm]:
        """`requests` as the compiler and the client want them."""
        return {name: request.form for name, request in self.requests.items()}

    @model_validator(mode="after")
    def _queues(self) -> Self:
        if (
            self.scheduling != SchedulingConfig(response_cache=self.scheduling.response_cache)
            and not self.max_batch_size
        ):
            raise ValueError("scheduling: only requests that Triton batches wait in queues; set max_batch_size")
        return self

    @model_validator(mode="after")
    def _batches(self) -> Self:
        whole = sorted(name for name, form in self.forms.items() if form.needs_whole_requests)
        if whole and self.max_batch_size:
            raise ValueError(
                f"requests of {', '.join(whole)}: Triton cannot batch requests with list: offsets or optional: true; "
                "set max_batch_size: 0, or send padded lists and nulls"
            )
        return self


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
    latency_quantiles: bool = True
    """Count the quantiles of latencies that docker/watch/ alerts on (summaries among Triton's metrics)."""
    cache_bytes: int = Field(default=0, ge=0)
    """Memory for kept answers, of models with a response cache; 0 for no cache."""
    rate_limit: bool = False
    """Let instances run by the resources and priorities of export.placement.<role>.rate_limit."""
    resources: dict[str, int] = Field(default_factory=dict)
    """How much there is of those resources, all of them; if empty, of each as much as the neediest instance holds."""
    start_timeout_seconds: float = Field(default=60, gt=0)
    """How long to wait for the server to be ready."""
    trusted_keys: list[Path] | None = None
    """Files of public keys: only versions that one of them signed are served; null serves unsigned ones too."""
    exit_timeout_seconds: int = Field(default=10, ge=0)
    """How long requests in flight may take when the server stops."""
