"""Which source reads what: by the config, or by looking at a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from etl.config import DataConfig
from etl.errors import ConfigError
from etl.sources.adult import Adult
from etl.sources.dataset import DataColumn
from etl.sources.generated import Generated
from etl.sources.movielens import MovieLens
from etl.sources.online_retail import OnlineRetail
from etl.sources.source import Source
from etl.sources.table import Table

SOURCES: dict[str, Callable[[DataConfig, int], Source]] = {
    "generated": Generated,
    "online-retail": OnlineRetail,
    "movielens": MovieLens,
    "adult": lambda config, seed: Adult(config),
    "table": lambda config, seed: Table(config),
}

_SIGNS: dict[str, tuple[str, ...]] = {
    "movielens": ("ratings.csv", "ratings.dat", "u.data"),
    "online-retail": ("*nline*etail*.parquet", "*nline*etail*.csv"),
    "adult": ("adult.data", "adult.data.gz"),
}


def open_source(config: DataConfig, seed: int) -> Source:
    """The source that `config` names; ConfigError if it needs a path and has none, or the path is not there."""
    if config.source != "generated":
        if config.path is None:
            raise ConfigError(
                "data.path", expected=f"a file or folder for the source {config.source}", received="nothing"
            )
        is_glob = any(sign in str(config.path) for sign in "*?[")
        if not is_glob and not config.path.exists():
            raise ConfigError("data.path", expected="a file or folder", received=f"{config.path}, which is not there")
    return SOURCES[config.source](config, seed)


def detect(folder: Path) -> str:
    """The source whose files lie in `folder` (or that `folder` is a file of); ConfigError if none is known."""
    names = [folder.name] if folder.is_file() else sorted(p.name for p in folder.iterdir()) if folder.is_dir() else None
    if names is None:
        raise ConfigError(f"{folder}", expected="a folder with data", received="no such folder")
    for source, signs in _SIGNS.items():
        if any(Path(name).match(sign) for name in names for sign in signs):
            return source
    raise ConfigError(
        f"{folder}",
        expected="; ".join(f"{source}: {' or '.join(signs)}" for source, signs in _SIGNS.items()),
        received=", ".join(names[:8]) or "an empty folder",
        hint="For other data write a pipeline file with `data: {source: table, path: …, columns: …}`.",
    )


__all__ = ["SOURCES", "DataColumn", "Source", "detect", "open_source"]
