"""MovieLens of any size: latest-small, latest, 20m, 25m, 32m (CSV), 1m and 10m (`::`), 100k (tabs).

A rating of 4 or more is a positive; with `data.feedback: implicit` every rating is, followed by items that the user
had not rated. The rating itself is not kept: it is the label. Rows are in time order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl.config import DataConfig
from etl.errors import DataError
from etl.progress import Progress, silent
from etl.sources.dataset import DRAWN, DataColumn, Dataset, overridden
from etl.sources.lines import read_latin1, scan_csv, scan_separated, streamed
from etl.sources.parts import PartWriter, new_folder
from etl.sources.quantiles import boundary
from etl.sources.unrated import Unrated

POSITIVE = 4.0
ROWS_AT_ONCE = 4_000_000
"""Rows sorted in memory at a time; a longer file is read once for each so many."""
_RATINGS = ("userId", "movieId", "rating", "timestamp")
_GENRE_FLAGS = """
    unknown Action Adventure Animation Children Comedy Crime Documentary Drama Fantasy Film-Noir Horror Musical Mystery
    Romance Sci-Fi Thriller War Western
"""
_GENRES = tuple(_GENRE_FLAGS.split())
COLUMNS = (
    DataColumn("user_id", "int64", role="user", nullable=False),
    DataColumn("item_id", "int64", role="item", nullable=False),
    DataColumn("genres", "string", is_list=True, role="tags", side="item"),
    DataColumn("year", "float32", role="numeric", minimum=1870.0, maximum=2100.0, side="item"),
    DataColumn("timestamp", "datetime", role="timestamp", nullable=False),
    DataColumn("liked", "int8", role="label", nullable=False),
)
_PEOPLE = (
    DataColumn("gender", "string", role="categorical", side="user"),
    DataColumn("age", "float32", role="numeric", minimum=0.0, maximum=130.0, side="user"),
    DataColumn("occupation", "string", role="categorical", side="user"),
)
FACTS = {
    "licence": "GroupLens: redistribution under the same terms, no commercial use",
    "citation": "Harper, Konstan (2015). The MovieLens Datasets. ACM TiiS 5(4):19, doi:10.1145/2827872",
}


@dataclass(frozen=True)
class MovieLens:
    """A MovieLens folder as it is unpacked."""

    config: DataConfig
    seed: int = 0

    def prepare(self, out: Path, progress: Progress = silent) -> Dataset:
        """Write ratings joined with movies (and users, where the folder has them) in time order."""
        ratings, movies, people = _opened(self.config.path)
        declared = COLUMNS if people is None else (*COLUMNS[:2], *_PEOPLE, *COLUMNS[2:])
        columns = overridden(declared, self.config.columns)
        with new_folder(out) as folder:
            raw = PartWriter(folder / "raw")
            for batch in streamed(_parsed(ratings.frame, self.config.limit), ratings.path):
                raw.write(batch)
                progress("read", raw.rows, None, "rows")
            writer = PartWriter(folder)
            files, start = raw.close(), 0
            unrated = Unrated.of(pl.scan_parquet(list(files)), self.seed) if self._implicit and files else None
            for rows in _in_time_order(files, raw.rows):
                shown = unrated.after(rows, start, self.config.negatives, "liked") if unrated else rows
                start += rows.height
                joined = shown.join(movies, on="item_id", how="left", maintain_order="left")
                if people is not None:
                    joined = joined.join(people, on="user_id", how="left", maintain_order="left")
                writer.write(joined.select([column.name for column in declared]))
                progress("sort", writer.rows, raw.rows, "rows")
            for path in raw.files:
                path.unlink()
            raw.folder.rmdir()
            empty = pl.DataFrame(schema={column.name: column.polars_type for column in declared})
            facts: dict[str, Any] = FACTS | ({DRAWN: True} if self._implicit else {})
            Dataset("movielens", columns, writer.close(empty), writer.rows, facts).save(folder)
        return Dataset.load(out)

    @property
    def _implicit(self) -> bool:
        return self.config.feedback == "implicit"


@dataclass(frozen=True)
class _Ratings:
    path: Path
    frame: pl.LazyFrame


def _opened(folder: Path | None) -> tuple[_Ratings, pl.DataFrame, pl.DataFrame | None]:
    where = folder or Path()
    if (where / "ratings.csv").is_file() and (where / "movies.csv").is_file():
        movies = scan_csv(where / "movies.csv").collect()
        return _Ratings(where / "ratings.csv", scan_csv(where / "ratings.csv")), _films(movies), None
    if (where / "ratings.dat").is_file() and (where / "movies.dat").is_file():
        movies = read_latin1(where / "movies.dat", "::", ("movieId", "title", "genres"))
        ratings = _Ratings(where / "ratings.dat", scan_separated(where / "ratings.dat", "::", _RATINGS))
        return ratings, _films(movies), _people_1m(where / "users.dat")
    if (where / "u.data").is_file() and (where / "u.item").is_file():
        movies = read_latin1(where / "u.item", "|", ("movieId", "title", "date", "video", "url", *_GENRES))
        ratings = _Ratings(where / "u.data", scan_separated(where / "u.data", "\t", _RATINGS))
        return ratings, _films(_flags_joined(movies)), _people_100k(where / "u.user")
    raise DataError(
        f"{folder}",
        expected="a MovieLens folder: ratings.csv and movies.csv, ratings.dat and movies.dat, or u.data and u.item",
    )


def _flags_joined(movies: pl.DataFrame) -> pl.DataFrame:
    flags = [pl.when(pl.col(name) == "1").then(pl.lit(name)) for name in _GENRES if name != "unknown"]
    return movies.with_columns(pl.concat_str(flags, separator="|", ignore_nulls=True).alias("genres"))


def _films(movies: pl.DataFrame) -> pl.DataFrame:
    """Return item_id, genres (empty when none are listed) and year, one row per movie."""
    listed = (
        pl.when(pl.col("genres").fill_null("") == "").then(pl.lit("(no genres listed)")).otherwise(pl.col("genres"))
    )
    genres = listed.str.split("|").list.set_difference(pl.lit(["(no genres listed)"])).alias("genres")
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Float32, strict=False).alias("year")
    return movies.select(_integer("movieId", "item_id"), genres, year).unique(
        "item_id", keep="first", maintain_order=True
    )


def _people_1m(path: Path) -> pl.DataFrame | None:
    if not path.is_file():
        return None
    people = read_latin1(path, "::", ("userId", "gender", "age", "occupation"))
    return people.select(
        _integer("userId", "user_id"), "gender", pl.col("age").cast(pl.Float32, strict=False), "occupation"
    )


def _people_100k(path: Path) -> pl.DataFrame | None:
    if not path.is_file():
        return None
    people = read_latin1(path, "|", ("userId", "age", "gender", "occupation"))
    return people.select(
        _integer("userId", "user_id"), "gender", pl.col("age").cast(pl.Float32, strict=False), "occupation"
    )


def _integer(name: str, alias: str) -> pl.Expr:
    return pl.col(name).str.strip_chars().cast(pl.Int64, strict=False).alias(alias)


def _parsed(ratings: pl.LazyFrame, limit: int | None) -> pl.LazyFrame:
    rating = pl.col("rating").str.strip_chars().cast(pl.Float32, strict=False)
    rows = ratings.select(
        _integer("userId", "user_id"),
        _integer("movieId", "item_id"),
        pl.from_epoch(pl.col("timestamp").str.strip_chars().cast(pl.Int64, strict=False))
        .cast(pl.Datetime("us"))
        .alias("timestamp"),
        (rating >= POSITIVE).cast(pl.Int8).alias("liked"),
    )
    return rows if limit is None else rows.head(limit)


def _in_time_order(files: tuple[Path, ...], rows: int) -> Iterator[pl.DataFrame]:
    """Sort by time, ROWS_AT_ONCE rows in memory at a time; rows without a time come first."""
    pieces = max(1, -(-rows // ROWS_AT_ONCE))
    edges = [boundary(files, "timestamp", piece / pieces) for piece in range(1, pieces)]
    time = pl.col("timestamp").to_physical().fill_null(-(2**63))
    for low, high in zip([None, *edges], [*edges, None], strict=True):
        kept = (pl.lit(True) if low is None else time >= low) & (pl.lit(True) if high is None else time < high)
        if files:
            yield pl.scan_parquet(list(files)).filter(kept).collect().sort("timestamp", maintain_order=True)
