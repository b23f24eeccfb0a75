"""Dataset: rows in Parquet files, and what each column means.

On disk a dataset is a folder with `dataset.json` and, usually, `part_*.parquet`. The files may also lie elsewhere (a
table that is read in place). A file may hold a column as strings although the dataset declares another type: a CSV is
kept as it was read, so that validation can point at the cells that do not parse.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl

from etl import dtypes
from etl.atomic import write_text
from etl.config import ColumnConfig, Role, Side
from etl.errors import ArtifactError, ConfigError
from etl.sources.cells import typed

FILE = "dataset.json"
DRAWN = "drawn_negatives"
"""The fact that each positive is followed by its drawn negatives, with the same user and time."""
SINGLE_ROLES: tuple[Role, ...] = ("user", "item", "session", "timestamp", "weight", "history")


@dataclass(frozen=True)
class DataColumn:
    """One raw column: `dtype` is a name from etl/dtypes.py, a list's is its values'. `minimum` and `maximum` are
    inclusive. `side` says whose property it is; None: of both, or of the moment.
    """

    name: str
    dtype: str
    is_list: bool = False
    role: Role = "ignore"
    nullable: bool = True
    minimum: float | None = None
    maximum: float | None = None
    side: Side | None = None

    @property
    def polars_type(self) -> pl.DataType:
        """The Polars type of the column."""
        inner = dtypes.dtype(self.dtype).polars
        return pl.List(inner) if self.is_list else inner


@dataclass(frozen=True)
class Dataset:
    """Rows in `files`, read in that order; `facts` says what is known of them (licence, citation, best reachable AUC
    …).
    """

    name: str
    columns: tuple[DataColumn, ...]
    files: tuple[Path, ...]
    rows: int
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", MappingProxyType(dict(self.facts)))

    def with_role(self, role: Role) -> tuple[DataColumn, ...]:
        """The columns with this role, in order."""
        return tuple(column for column in self.columns if column.role == role)

    def only(self, role: Role) -> str | None:
        """The name of the first column with this role, None if there is none."""
        found = self.with_role(role)
        return found[0].name if found else None

    @property
    def label(self) -> str | None:
        """The name of the label column, of the first one where there are several."""
        return self.only("label")

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of all label columns, in order."""
        return tuple(column.name for column in self.with_role("label"))

    def scan(self) -> pl.LazyFrame:
        """The declared columns in their declared types, rows in order; a cell that does not parse is null."""
        wanted = [typed(pl.col(column.name), self._stored(column.name), column) for column in self.columns]
        return pl.scan_parquet(list(self.files)).select(wanted)

    def _stored(self, name: str) -> pl.DataType:
        return pl.read_parquet_schema(self.files[0])[name]

    def save(self, folder: Path) -> None:
        """Write `dataset.json` into `folder`; files inside it are named relatively, so that the folder can be moved."""
        inside = [path.relative_to(folder) if path.is_relative_to(folder) else path.resolve() for path in self.files]
        record = {
            "format": 1,
            "name": self.name,
            "rows": self.rows,
            "files": [str(path) for path in inside],
            "columns": [asdict(column) for column in self.columns],
            "facts": dict(self.facts),
        }
        write_text(folder / FILE, json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """Read the dataset in `folder`; ArtifactError if it is not one, or if one of its files is gone."""
        try:
            record = json.loads((folder / FILE).read_text(encoding="utf-8"))
            columns = tuple(DataColumn(**column) for column in record["columns"])
            files = tuple(folder / name for name in record["files"])
            dataset = cls(record["name"], columns, files, record["rows"], record["facts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ArtifactError(f"dataset {folder}", expected=f"a folder with {FILE}", received=str(error)) from error
        gone = [str(path) for path in files if not path.is_file()]
        if gone:
            raise ArtifactError(f"dataset {folder}", expected=f"{len(files)} files", received=f"no {gone[0]}")
        return dataset


def closest(name: str, known: Iterable[str]) -> str:
    """A hint naming the known name most like `name`, or all of them."""
    names = list(known)
    match = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"Did you mean {match[0]!r}?" if match else f"Known are: {', '.join(names)}."


def overridden(columns: Iterable[DataColumn], changes: Mapping[str, ColumnConfig]) -> tuple[DataColumn, ...]:
    """The columns with the user's changes: all is replaced, dtype and side only when given."""
    known = {column.name: column for column in columns}
    for name, change in changes.items():
        if name not in known:
            raise ConfigError(f"data.columns.{name}", expected="a column of the source", hint=closest(name, known))
        known[name] = replace(
            known[name],
            role=change.role,
            dtype=change.dtype or known[name].dtype,
            nullable=change.nullable,
            minimum=change.minimum,
            maximum=change.maximum,
            side=change.side or known[name].side,
        )
    checked = tuple(known.values())
    check_roles(checked)
    return checked


def check_roles(columns: Iterable[DataColumn]) -> None:
    """ConfigError if a role that only one column can have is given to several."""
    listed = list(columns)
    for role in SINGLE_ROLES:
        names = [column.name for column in listed if column.role == role]
        if len(names) > 1:
            raise ConfigError(f"role {role}", expected="one column", received=", ".join(names))
