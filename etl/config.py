"""The parts of pipeline.yaml that etl reads: data, validation, split and features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, StrictInt, field_validator

from etl.errors import ConfigError
from etl.memory import parse_bytes
from etl.section import Section

Role = Literal[
    "user", "item", "session", "label", "timestamp", "categorical", "numeric", "tags", "weight", "history", "ignore"
]
Side = Literal["user", "item"]
Examples = Literal["rows", "next_item", "item_set"]


class ColumnConfig(Section):
    """What one raw column is, and what it may hold."""

    role: Role
    """What the column means: `tags` is a list of categorical values, `session` names the visit or the basket of a row,
    `history` is the list of the items before it, `ignore` keeps it out of the features."""
    dtype: str | None = None
    """A name from etl/dtypes.py (a list's is its values'); taken from the file when absent."""
    nullable: bool = True
    """Whether nulls are allowed; a null in a column that forbids them sends the row to quarantine."""
    minimum: float | None = None
    """Smallest allowed value; rows below it go to quarantine."""
    maximum: float | None = None
    """Largest allowed value; rows above it go to quarantine."""
    side: Side | None = None
    """Whose property it is: the user's, the item's, or neither's alone. Models with a tower for each need it."""


class DataConfig(Section):
    """Where the rows come from."""

    source: Literal["generated", "online-retail", "movielens", "adult", "table"] = "generated"
    """`table` reads any CSV or Parquet described by `columns`; the others know their own columns."""
    path: Path | None = None
    """A file or folder; needed by every source but `generated`."""
    rows: int = Field(default=800_000, ge=1)
    """Rows to generate; for the other sources, see `limit`."""
    limit: int | None = Field(default=None, ge=1)
    """Read at most so many rows of the source."""
    users: int = Field(default=5_000, ge=1)
    """Users in generated data."""
    items: int = Field(default=1_000, ge=1)
    """Items in generated data."""
    feedback: Literal["explicit", "implicit"] = "explicit"
    """What a label says (movielens). explicit: whether a rating is 4 or more. implicit: whether the user rated the item
    at all; each rating is followed by `negatives` items that they had not rated, drawn evenly."""
    negatives: int = Field(default=3, ge=0)
    """Sampled non-purchases per purchase (online-retail), unrated items per rating (movielens, implicit feedback)."""
    negative_power: float = Field(default=0.75, ge=0, le=1)
    """online-retail: items are drawn by (purchases so far) ** this, as in word2vec; 0 draws all that are known alike.
    The higher it is, the less a model of rows learns of popularity: for a full ranking take 0."""
    columns: dict[str, ColumnConfig] = Field(default_factory=dict)
    """Columns of a `table`; for other sources, changes to what they declare."""


class ValidationConfig(Section):
    """When data is refused."""

    max_bad_rows: float = Field(default=0.01, ge=0, le=1)
    """Largest share of rows that may go to quarantine; above it the run stops with exit code 3."""
    max_null_rate: float = Field(default=0.5, ge=0, le=1)
    """A column with a larger share of nulls is reported as WARN; a column of nothing but nulls FAILs."""
    min_label_share: float = Field(default=0.001, ge=0, le=0.5)
    """A label whose rarer class has a smaller share is reported as WARN; a single class FAILs."""
    max_duplicate_rate: float = Field(default=0.05, ge=0, le=1)
    """A larger share of repeated (user, item, timestamp) keys is reported as WARN."""
    max_leakage: float = Field(default=0.001, ge=0, le=1)
    """A larger share of evaluation rows that are also training rows FAILs."""
    unknown_columns: Literal["ignore", "warn", "fail"] = "warn"
    """What to make of columns that the source does not declare."""


class SplitConfig(Section):
    """How rows are divided into train, valid and test."""

    by: Literal["time", "last-per-user", "random"] = "time"
    """`last-per-user` holds out each user's last row for test and the one before it for valid; where negatives follow
    each positive (movielens, implicit feedback), the last positive and the one before it, each with its negatives."""
    valid: float = Field(default=0.1, gt=0, lt=1)
    """Share of rows in valid (time, random)."""
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of rows in test (time, random)."""
    examples: Examples | None = None
    """What one row of the parts becomes: rows as they are, or a list of items and the one that follows (next_item) or
    belongs to it (item_set). What the model learns, if absent."""
    history: int = Field(default=20, ge=1)
    """Largest number of items in such a list: the last ones of a history; a larger set is divided."""
    min_history: int = Field(default=1, ge=0)
    """Examples with fewer items in their list are left out."""
    group: list[str] = Field(default_factory=list)
    """Columns whose values together say which rows make one list; the session column if absent, else the user's."""
    context: list[str] = Field(default_factory=list)
    """Columns that are known before the item is, such as hour: kept beside the user's own, which always are."""


class ChainConfig(Section):
    """`columns >> op >> op`, as in NVTabular."""

    columns: list[str | list[str]] = Field(min_length=1)
    """Column names; a list in the list is encoded jointly (one vocabulary)."""
    ops: list[str | dict[str, dict[str, Any] | None]] = Field(default_factory=list)
    """NVTabular operators by name, with their arguments: `- LogOp` or `- Categorify: {freq_threshold: 2}`."""
    tags: list[str] = Field(default_factory=list)
    """Merlin tags for the outputs, such as user_id, item_id, continuous."""
    then: list[ChainConfig] = Field(default_factory=list)
    """Chains that some of this chain's outputs go on through; the others are features as they are."""


class FeaturesConfig(Section):
    """The feature graph: one of `workflow` or `chains`, or neither to have chains made from the columns' roles."""

    workflow: str | None = None
    """`file.py:function` that returns an nvtabular.Workflow; the function is called without arguments."""
    chains: list[ChainConfig] = Field(default_factory=list)
    """The graph as chains of NVTabular operators."""
    max_list_length: int = Field(default=4, ge=1)
    """Lists are cut or padded to this length in chains made from roles."""
    max_history: int | None = Field(default=None, ge=1)
    """The same for a history, of which the last items are kept; split.history if absent."""
    memory_limit: str | None = None
    """What fit and transform may use of the memory, such as 4GB. Fit: half of the machine's if absent, larger tables go
    to TMPDIR. Transform: smaller parts; no limit if absent."""
    scheduler: str = "local"
    """Where fit runs: local, dask, dask-cuda, or the address of a Dask cluster (tcp://host:port)."""
    rows_per_file: int = Field(default=250_000, ge=1)
    """Rows of one Parquet part of the transformed features."""
    row_group_size: int = Field(default=65_536, ge=1)
    """Rows of one row group of those parts."""
    compression: Literal["zstd", "snappy", "lz4", "gzip", "brotli", "uncompressed"] = "zstd"
    """How those parts are compressed."""
    shuffle: StrictInt | None = None
    """A seed: write the training features in an order drawn from it, over all rows."""
    engine: Literal["cpu", "gpu"] = "cpu"
    """What computes the features; gpu needs cudf-polars."""
    gpu_fallback: bool = False
    """Let the CPU compute what the engine gpu cannot."""
    widen: bool = False
    """Take columns of a narrower type than the graph declares, when no value changes (int32 for int64)."""

    @field_validator("memory_limit")
    @classmethod
    def _is_bytes(cls, limit: str | None) -> str | None:
        try:
            if limit is not None:
                parse_bytes(limit)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return limit
