"""Where rows come from: Parquet, CSV, Arrow IPC and Delta Lake; files, folders, globs and lists; here or in a store.

An address is a path, or a URL that begins with s3://, gs://, az:// or http(s)://. Credentials are taken from the
environment by Polars' object store, and from nowhere else. Folders and globs in a store are listed by etl/stores.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl

from etl import stores
from etl.dtypes import dtype, from_polars, spelled
from etl.errors import ConfigError, DataError, SchemaError
from etl.graph import Column

Address = str | Path

FORMATS: dict[str, str] = {
    ".parquet": "Parquet", ".pq": "Parquet", ".csv": "CSV", ".tsv": "CSV", ".arrow": "Arrow IPC", ".ipc": "Arrow IPC",
    ".feather": "Arrow IPC",
}  # fmt: skip
"""The format that a file name's end stands for; a name with another end is taken for Parquet."""

WIDER: dict[str, tuple[str, ...]] = {
    "int8": ("int16", "int32", "int64"), "int16": ("int32", "int64"), "int32": ("int64",),
    "uint8": ("uint16", "uint32", "uint64", "int16", "int32", "int64"),
    "uint16": ("uint32", "uint64", "int32", "int64"), "uint32": ("uint64", "int64"), "float32": ("float64",),
}  # fmt: skip
"""Types that hold every value of a type, exactly."""

_DELTA = "Delta Lake"


@dataclass(frozen=True)
class Input:
    """One file (or one Delta Lake table): its address and its format."""

    address: str
    format: str = "Parquet"

    @property
    def name(self) -> str:
        """What messages call it: the last part of the address."""
        return PurePosixPath(self.address).name

    @property
    def is_local(self) -> bool:
        """True for a path of this machine."""
        return not is_remote(self.address)

    def schema(self) -> Mapping[str, pl.DataType]:
        """Return the columns (a CSV's are strings); DataError if it is missing, empty, truncated or another format."""
        with self.readable():
            return self._open({}).collect_schema()

    def count(self) -> int:
        """Return the number of rows; from the footer where there is one."""
        with self.readable():
            return int(self._open({}).select(pl.len()).collect().item())

    def scan(self, columns: Iterable[Column]) -> pl.LazyFrame:
        """Return the raw `columns` as the types they declare, rows in order; the types are not checked here."""
        wanted = list(columns)
        types = {column.name: dtype(column.dtype).polars for column in wanted if not column.is_list}
        return self._open(types).select(as_declared(column) for column in wanted)

    def read_through(self) -> None:
        """Read all rows and keep none; DataError if a part of the file is damaged."""
        with self.readable():
            for _ in self._open({}).collect_batches():
                pass

    def _open(self, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        if self.format == "CSV":
            tab = self.address.endswith(".tsv")
            # Nothing is guessed: what no type is declared for stays text.
            return pl.scan_csv(
                self.address, separator="\t" if tab else ",", infer_schema=False, schema_overrides=types, glob=False
            )
        if self.format == "Arrow IPC":
            return pl.scan_ipc(self.address, glob=False)
        if self.format == _DELTA:
            _require_deltalake(self.address)
            return pl.scan_delta(self.address)
        return pl.scan_parquet(self.address, glob=False)

    @contextmanager
    def readable(self) -> Iterator[None]:
        """Turn what the system and Polars say while reading into a DataError that names the file."""
        try:
            yield
        except (OSError, pl.exceptions.PolarsError) as error:
            said = str(error).splitlines()[0] if str(error) else type(error).__name__
            expected = "a whole Parquet file" if self.format == "Parquet" else f"a {self.format} file or table"
            raise DataError(f"{self.address} cannot be read", expected=expected, received=self._seen(said)) from error

    def _seen(self, said: str) -> str:
        if not self.is_local:
            return said
        path = Path(self.address)
        size = f"{path.stat().st_size} bytes ({said})" if path.is_file() else said
        return size if path.exists() else "nothing there"


def find(where: Address | Sequence[Address]) -> tuple[Input, ...]:
    """Return the files of an address or of several, in their order; those of a folder or glob by name.

    Raises DataError when there are none, ConfigError for a store that cannot be listed.
    """
    addresses = [where] if isinstance(where, str | Path) else list(where)
    found = tuple(item for address in addresses for item in _expand(str(address)))
    if not found:
        listed = ", ".join(map(str, addresses)) or "none"
        raise DataError("input", expected="at least one Parquet file, or CSV, Arrow IPC or Delta Lake", received=listed)
    return found


def is_remote(address: Address) -> bool:
    """True for a URL."""
    return "://" in str(address)


def _expand(address: str) -> list[Input]:
    if is_remote(address):
        return _expand_remote(address)
    path = Path(address)
    if (path / "_delta_log").is_dir():
        return [Input(address, _DELTA)]
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if _is_data(PurePosixPath(each.relative_to(path))))
        return [_file(str(each)) for each in files]
    if not path.exists() and any(letter in address for letter in "*?["):
        root = Path(path.anchor or ".")
        return [_file(str(each)) for each in sorted(root.glob(str(path.relative_to(path.anchor)))) if each.is_file()]
    return [_file(address)]


def _file(address: str) -> Input:
    return Input(address, FORMATS.get(PurePosixPath(address.partition("?")[0]).suffix.lower(), "Parquet"))


def _expand_remote(address: str) -> list[Input]:
    scheme, _, rest = address.partition("://")
    is_web = scheme in ("http", "https")
    is_glob = any(letter in rest for letter in "*[") or (not is_web and "?" in rest)
    # A store has no folders to ask for: a name without an end is taken for one.
    is_folder = address.endswith("/") or not (is_web or PurePosixPath(rest).suffix)
    if not is_glob and not is_folder:
        return [_file(address)]
    if is_web:
        raise ConfigError(address, expected="the address of one file: HTTP has no folders", received="a folder or glob")
    names = stores.listed(address, is_glob)
    if is_glob or names == [address]:  # the latter: an object whose name has no end
        return [_file(name) for name in names]
    if any("/_delta_log/" in name for name in names):
        return [Input(address, _DELTA)]
    folder = address.rstrip("/") + "/"
    return [_file(name) for name in names if _is_data(PurePosixPath(name.removeprefix(folder)))]


def _is_data(path: PurePosixPath) -> bool:
    """Say if a file, by its path in the folder, is one of the formats and not hidden."""
    return path.suffix.lower() in FORMATS and not any(part.startswith((".", "_")) for part in path.parts)


def _require_deltalake(address: str) -> None:
    try:
        import deltalake  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError as error:
        hint = "Install it (pip install deltalake), or name the table's Parquet files."
        raise ConfigError(f"{address} is a Delta Lake table", expected="the package deltalake", hint=hint) from error


def check(files: Sequence[Input], columns: Collection[Column], widen: bool = False) -> None:
    """Raise SchemaError with every column of every file that is missing or of another type than `columns` declare.

    A column of nothing but nulls has no type, and takes the declared one. `widen` also allows a type whose every
    value the declared one holds (int32 for int64).
    """
    problems = []
    for file in files:
        found = file.schema()
        problems += [f"{file.name}: {p}" for column in columns if (p := _mismatch(column, found, file, widen))]
    if problems:
        hint = "" if widen else _widening_hint(problems, files, columns)
        raise SchemaError(f"{len(problems)} column(s) do not fit the graph: {'; '.join(problems)}", hint=hint)


def drift(files: Sequence[Input]) -> list[str]:
    """Return how the columns of each file differ from the first one's: missing, extra, of another type.

    A CSV file's columns have no types.
    """
    if len(files) < 2:
        return []
    first = files[0].schema()
    return [f"{file.name}: {said}" for file in files[1:] for said in _differences(files[0], first, file)]


def _differences(first: Input, expected: Mapping[str, pl.DataType], file: Input) -> Iterator[str]:
    found = file.schema()
    yield from (f"{name!r} is missing ({first.name} has it)" for name in expected if name not in found)
    yield from (f"{name!r} is extra ({first.name} lacks it)" for name in found if name not in expected)
    if "CSV" in (first.format, file.format):
        return
    for name, kind in found.items():
        if name in expected and kind != expected[name]:
            yield f"{name!r} is {kind}, in {first.name} it is {expected[name]}"


def scan(columns: Iterable[Column], where: Address | Sequence[Address], widen: bool = False) -> pl.LazyFrame:
    """Return the raw `columns` of all files as one frame with the types of etl/dtypes.py, rows in order.

    Every file's columns are checked first; see `check` and `find` for the errors.
    """
    wanted, files = list(columns), find(where)
    check(files, wanted, widen)
    return joined(files, wanted)


def joined(files: Sequence[Input], columns: Sequence[Column]) -> pl.LazyFrame:
    """Return `columns` of `files` that were checked, one after the other."""
    frames = [file.scan(columns) for file in files]
    return pl.concat(frames) if len(frames) > 1 else frames[0]


def slices(files: Sequence[Input], rows: int) -> Iterator[tuple[Input, int, int]]:
    """Yield (file, first row in it, rows) over all rows of `files`, in order, at most `rows` at a time."""
    for file in files:
        height = file.count()
        for offset in range(0, height, rows):
            yield file, offset, min(rows, height - offset)


def as_declared(column: Column) -> pl.Expr:
    """Return the column as the type it declares."""
    inner = dtype(column.dtype).polars
    return pl.col(column.name).cast(pl.List(inner) if column.is_list else inner)


def _mismatch(column: Column, found: Mapping[str, pl.DataType], file: Input, widen: bool) -> str:
    """Say what is wrong with a raw column in a file; nothing if all is well."""
    expected = spelled(column.dtype, column.is_list)
    if column.name not in found:
        return f"{column.name!r} is missing (expected {expected})"
    if file.format == "CSV":
        return f"{column.name!r} is a list, which CSV has none of" if column.is_list else ""
    actual = found[column.name]
    if actual == pl.Null or actual == pl.List(pl.Null):
        return ""
    try:
        name, is_list = from_polars(actual)
    except SchemaError:
        return f"{column.name!r} is {actual} (expected {expected})"
    fits = name == column.dtype or (widen and column.dtype in WIDER.get(name, ()))
    return (
        ""
        if fits and is_list == column.is_list
        else f"{column.name!r} is {spelled(name, is_list)} (expected {expected})"
    )


def _widening_hint(problems: Sequence[str], files: Sequence[Input], columns: Collection[Column]) -> str:
    """Say so when every problem would be gone with `widen`."""
    left = [_mismatch(column, file.schema(), file, True) for file in files for column in columns]
    return "" if any(left) else "Each is held exactly by the declared type: allow it with features.widen=true."
