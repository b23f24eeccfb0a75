"""What lies in a folder of an object store, or matches a glob there.

fsspec lists any format, if its driver for the store (s3fs, gcsfs, adlfs) is installed. Without it Polars lists Parquet
and Arrow files by itself, from their footers; of CSV files it cannot.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import polars as pl

from etl.errors import ConfigError

_PATH = "\0path"
_ARROW = (".arrow", ".ipc", ".feather")
_HINT = "Name the files one by one, or install fsspec's driver for that store (s3fs, gcsfs, adlfs)."


def listed(address: str, is_glob: bool) -> list[str]:
    """Return the addresses of the files in a folder of a store (also of folders in it), or those of a glob, sorted.

    Polars leaves out files without rows, and takes a folder for Parquet. Raises ConfigError with what the store said,
    or for a kind of store that is not known.
    """
    try:
        import fsspec  # type: ignore[import-untyped]

        store, path = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        return _by_polars(address, is_glob, str(error))
    try:
        names = store.glob(path) if is_glob else store.find(path)
        return sorted(str(store.unstrip_protocol(name)) for name in names)
    except Exception as error:  # each driver has errors of its own
        raise _refused(address, error) from error


def _by_polars(address: str, is_glob: bool, missing: str) -> list[str]:
    suffix = PurePosixPath(address).suffix.lower()
    if is_glob and suffix not in (".parquet", ".pq", *_ARROW):
        raise ConfigError(f"{address} cannot be listed", received=missing, hint=_HINT)
    where = address if is_glob else f"{address.rstrip('/')}/"
    try:
        if suffix in _ARROW:
            frame = pl.scan_ipc(where, include_file_paths=_PATH)
        else:
            frame = pl.scan_parquet(where, include_file_paths=_PATH, missing_columns="insert", extra_columns="ignore")
        return frame.select(pl.col(_PATH).unique().sort()).collect()[_PATH].to_list()
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        if "expanded paths were empty" in str(error):
            return []
        raise _refused(address, error, missing) from error


def _refused(address: str, error: BaseException, missing: str = "") -> ConfigError:
    said = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    return ConfigError(f"{address} cannot be listed", received=f"{said} ({missing})" if missing else said, hint=_HINT)
