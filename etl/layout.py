"""How feature rows are laid out in Parquet: parts, row groups, compression, folders named after values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import polars as pl

from etl.dtypes import is_float
from etl.errors import ConfigError
from etl.graph import Column
from etl.names import FINGERPRINT
from etl.parts import cut, in_order

Compression = Literal["zstd", "snappy", "lz4", "gzip", "brotli", "uncompressed"]


@dataclass(frozen=True)
class Layout:
    """How the Parquet files are written.

    `compression_level` is for zstd, gzip and brotli, None for Polars' own. `partition_by` are written columns whose
    values name folders (`country=NO/part_00000.parquet`); they are then not in the files.
    """

    row_group_size: int = 65_536
    compression: Compression = "zstd"
    compression_level: int | None = None
    partition_by: tuple[str, ...] = ()

    @property
    def level(self) -> int | None:
        """The level that is written with: zstd's fastest unless told otherwise, a tenth larger than Polars' default."""
        return 1 if self.compression == "zstd" and self.compression_level is None else self.compression_level


USUAL = Layout()
"""How parts are written unless told otherwise."""


def check(layout: Layout, features: Iterable[Column], kept: Sequence[str]) -> None:
    """Raise ConfigError for columns to partition by that are not written, or have no values to name a folder after."""
    types = {column.name: (column.dtype, column.is_list) for column in features}
    for name in layout.partition_by:
        if name not in (*types, *kept):
            expected = f"one of: {', '.join((*types, *kept))}"
            raise ConfigError(f"partition_by {name!r}", expected=expected)
        dtype, is_list = types.get(name, ("", False))
        if is_float(dtype) or is_list:
            raise ConfigError(f"partition_by {name!r}", expected="integers, strings or booleans", received=dtype)


def write(
    frames: Iterable[pl.DataFrame],
    folder: Path,
    rows_per_file: int,
    empty: pl.DataFrame,
    fingerprint: str,
    layout: Layout,
) -> tuple[int, list[str]]:
    """Write `frames` to `folder` in parts of `rows_per_file`; return the rows and the names of the files, in order.

    No rows make one part, `empty`.
    """
    work = partial(_write, folder=folder, metadata={FINGERPRINT: fingerprint}, layout=layout)
    rows, names = 0, []
    for height, made in in_order(work, enumerate(cut(frames, rows_per_file, empty))):
        rows += height
        names += made
    return rows, names


def _write(
    part: tuple[int, pl.DataFrame], folder: Path, metadata: Mapping[str, str], layout: Layout
) -> tuple[int, list[str]]:
    """Write one part, and return its rows and the names of its files."""
    number, frame = part
    made = []
    for place, rows in _folders(frame, layout.partition_by):
        name = f"{place}part_{number:05d}.parquet"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        rows.write_parquet(
            folder / name,
            row_group_size=layout.row_group_size,
            compression=layout.compression,
            compression_level=layout.level,
            metadata=dict(metadata),
        )
        made.append(name)
    return frame.height, made


def _folders(frame: pl.DataFrame, by: Sequence[str]) -> Iterable[tuple[str, pl.DataFrame]]:
    if not by or not frame.height:
        return [("", frame.drop(by))]
    split = frame.partition_by(by, as_dict=True, include_key=False, maintain_order=True)
    return [(_place(by, values), rows) for values, rows in split.items()]


def _place(names: Sequence[str], values: Sequence[Any]) -> str:
    """Return the folder of one combination of values, as Hive spells it."""
    spelled = ("__HIVE_DEFAULT_PARTITION__" if value is None else quote(str(value), safe=" ") for value in values)
    return "".join(f"{quote(name, safe=' ')}={value}/" for name, value in zip(names, spelled, strict=True))
