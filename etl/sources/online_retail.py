"""UCI Online Retail as impressions: what a customer bought (1), and what they could have bought and did not (0).

What is left out, and why:
- cancellations (InvoiceNo begins with C), lines without a positive quantity and price: nothing was bought;
- codes that are not five digits and letters (POST, BANK CHARGES, gift vouchers …): not products;
- lines without CustomerID: there is no user to learn from, and these invoices collect hundreds of customers of a web
  shop;
- an item's first day of sale: negatives can only be items that are known, so such a row could only be a positive.

All features of a row are what was known when its day began: the item's last price and description, how often it and the
customer had bought, and how often this customer had bought this item. Positives and negatives get them from the same
tables. Quantity is not kept: only a purchase has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from etl.config import DataConfig
from etl.errors import DataError, SchemaError
from etl.progress import Progress, silent
from etl.sources.dataset import DataColumn, Dataset, overridden
from etl.sources.lines import csv_columns, scan_csv
from etl.sources.parts import PartWriter, new_folder, parquet_schema, readable

NEEDED = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
MAX_WORDS = 6
_STOP = {"and", "the", "for", "with", "set", "pack", "assorted", "design", "from"}
COLUMNS = (
    DataColumn("user_id", "int64", role="user", nullable=False),
    DataColumn("item_id", "string", role="item", nullable=False),
    DataColumn("country", "string", role="categorical", side="user"),
    DataColumn("hour", "int64", role="categorical", minimum=0, maximum=23),
    DataColumn("weekday", "int64", role="categorical", minimum=1, maximum=7),
    DataColumn("words", "string", is_list=True, role="tags", side="item"),
    DataColumn("price", "float64", role="numeric", minimum=0.0, side="item"),
    DataColumn("item_purchases", "float32", role="numeric", minimum=0.0, side="item"),
    DataColumn("user_purchases", "float32", role="numeric", minimum=0.0, side="user"),
    DataColumn("bought_before", "float32", role="numeric", minimum=0.0),
    DataColumn("timestamp", "datetime", role="timestamp", nullable=False),
    DataColumn("bought", "int8", role="label", nullable=False),
)
FACTS = {
    "licence": "CC BY 4.0",
    "citation": "Chen, Sain, Guo (2012). Online Retail. UCI Machine Learning Repository, doi:10.24432/C5BW33",
}


@dataclass(frozen=True)
class OnlineRetail:
    """`online_retail.parquet` or a CSV of the same columns."""

    config: DataConfig
    seed: int

    def prepare(self, out: Path, progress: Progress = silent) -> Dataset:
        """Write every purchase followed by its `negatives` sampled non-purchases, in time order."""
        columns = overridden(COLUMNS, self.config.columns)
        lines = purchases(retail_file(self.config.path))
        limit = self.config.limit
        with new_folder(out) as folder:
            writer = PartWriter(folder)
            for rows in _impressions(lines, self.config, self.seed):
                writer.write(rows if limit is None else rows.head(limit - writer.rows))
                progress("sample", writer.rows, limit, "rows")
                if limit is not None and writer.rows >= limit:
                    break
            empty = pl.DataFrame(schema={column.name: column.polars_type for column in COLUMNS})
            Dataset("online-retail", columns, writer.close(empty), writer.rows, FACTS).save(folder)
        return Dataset.load(out)


def retail_file(path: Path | None) -> Path:
    """The data file at `path` or in the folder `path`; DataError if there is none."""
    if path is not None and path.is_file():
        return path
    found = sorted(file for file in (path or Path()).glob("*nline*etail*") if file.suffix in (".parquet", ".csv"))
    if path is None or not found:
        raise DataError(
            f"{path}", expected="online_retail.parquet or .csv, or a folder with one", received="no such file"
        )
    return found[0]


def purchases(path: Path) -> pl.DataFrame:
    """One row per invoice and product: user, item, country, words, price, time; in time order."""
    is_csv = path.suffix == ".csv"
    known = csv_columns(path) if is_csv else parquet_schema(path).names()
    missing = [name for name in NEEDED if name not in known]
    if missing:
        raise SchemaError(f"{path.name}", expected=f"columns {', '.join(NEEDED)}", received=f"no {', '.join(missing)}")
    lines = scan_csv(path) if is_csv else pl.scan_parquet(path)
    time = pl.col("InvoiceDate")
    when = time.str.to_datetime(strict=False, time_unit="us") if is_csv else time.cast(pl.Datetime("us"))
    invoice, code = pl.col("InvoiceNo").cast(pl.String), pl.col("StockCode").cast(pl.String).str.to_uppercase()
    read = lines.select(
        invoice.alias("invoice"),
        pl.col("CustomerID").cast(pl.Float64, strict=False).cast(pl.Int64).alias("user_id"),
        code.alias("item_id"),
        pl.col("Country").alias("country"),
        pl.col("Description").alias("description"),
        pl.col("UnitPrice").cast(pl.Float64, strict=False).alias("price"),
        pl.col("Quantity").cast(pl.Float64, strict=False).alias("quantity"),
        when.alias("timestamp"),
    )
    bought = (pl.col("quantity") > 0) & (pl.col("price") > 0) & ~pl.col("invoice").str.starts_with("C")
    product = pl.col("item_id").str.contains(r"^\d{5}[A-Z]*$")
    with readable(path):
        kept = read.filter(
            bought & product & pl.col("user_id").is_not_null() & pl.col("timestamp").is_not_null()
        ).collect()
    unique = kept.unique(["invoice", "item_id"], keep="first", maintain_order=True)
    return unique.drop("quantity").sort("timestamp", maintain_order=True)


@dataclass
class _Known:
    """What the shop knows as a day begins, by item number and user number."""

    item_counts: NDArray[np.float64]
    user_counts: NDArray[np.float64]
    price: NDArray[np.float64]
    description: NDArray[np.int64]
    pairs: dict[int, int] = field(default_factory=dict)

    def learn(self, day: pl.DataFrame) -> None:
        """Take in the purchases of a day."""
        item, user = day["item"].to_numpy(), day["user"].to_numpy()
        np.add.at(self.item_counts, item, 1)
        np.add.at(self.user_counts, user, 1)
        self.price[item] = day["price"].to_numpy()
        self.description[item] = day["text"].to_numpy()
        for pair in (user * len(self.item_counts) + item).tolist():
            self.pairs[pair] = self.pairs.get(pair, 0) + 1


def _impressions(lines: pl.DataFrame, config: DataConfig, seed: int) -> Iterator[pl.DataFrame]:
    if not lines.height:
        return
    rng = np.random.default_rng([seed, 2])
    numbered = lines.with_columns(
        pl.col("item_id").rank("dense").sub(1).cast(pl.Int64).alias("item"),
        pl.col("user_id").rank("dense").sub(1).cast(pl.Int64).alias("user"),
        pl.col("description").fill_null("").rank("dense").sub(1).cast(pl.Int64).alias("text"),
        pl.col("timestamp").dt.date().alias("day"),
    )
    codes = numbered["item_id"].unique().sort()
    words = words_of(numbered["description"].fill_null("").unique().sort())
    items, users = len(codes), numbered["user"].n_unique()
    known = _Known(np.zeros(items), np.zeros(users), np.zeros(items), np.zeros(items, np.int64))
    for _, day in numbered.group_by("day", maintain_order=True):
        frame = _one_day(day, known, config, rng)
        if frame.height:
            names = codes.gather(frame["item"]).alias("item_id"), words.gather(frame["text"]).alias("words")
            yield frame.with_columns(names).select([column.name for column in COLUMNS])
        known.learn(day)


def _one_day(day: pl.DataFrame, known: _Known, config: DataConfig, rng: np.random.Generator) -> pl.DataFrame:
    """The day's purchases of known items, each followed by its negatives: known items not bought that day."""
    negatives = config.negatives
    items = len(known.item_counts)
    bought_today = np.unique((day["user"] * items + day["item"]).to_numpy())
    shown = day.filter(pl.Series(known.item_counts[day["item"].to_numpy()] > 0))
    weights = np.cumsum(np.where(known.item_counts > 0, known.item_counts**config.negative_power, 0))
    user = np.repeat(shown["user"].to_numpy(), negatives + 1)
    row = np.repeat(np.arange(shown.height), negatives + 1)
    label = np.tile(np.arange(negatives + 1) == 0, shown.height)
    item = shown["item"].to_numpy()[row] if shown.height else np.empty(0, np.int64)
    drawn = np.searchsorted(weights, rng.random(int((~label).sum())) * weights[-1], side="right")
    item[~label] = np.minimum(drawn, items - 1)
    pair = user * items + item
    kept = label | ~np.isin(pair, bought_today)
    row, user, item, label, pair = row[kept], user[kept], item[kept], label[kept], pair[kept]
    rows = (
        shown[row]
        .select("user_id", "country", "timestamp")
        .with_columns(
            pl.col("timestamp").dt.hour().cast(pl.Int64).alias("hour"),
            pl.col("timestamp").dt.weekday().cast(pl.Int64).alias("weekday"),
            pl.Series("item", item),
            pl.Series("text", known.description[item]),
            pl.Series("price", known.price[item]),
            pl.Series("item_purchases", known.item_counts[item].astype(np.float32)),
            pl.Series("user_purchases", known.user_counts[user].astype(np.float32)),
            pl.Series("bought_before", np.array([known.pairs.get(p, 0) for p in pair.tolist()], np.float32)),
            pl.Series("bought", label.astype(np.int8)),
        )
    )
    return rows.unique(["user_id", "timestamp", "item"], keep="first", maintain_order=True)


def words_of(descriptions: pl.Series) -> pl.Series:
    """Up to MAX_WORDS different words of each description, lower case, without numbers and the most common fillers."""
    lists = [
        list(dict.fromkeys(word for word in re.findall(r"[a-z]{3,}", text.lower()) if word not in _STOP))[:MAX_WORDS]
        for text in descriptions.to_list()
    ]
    return pl.Series("words", lists, dtype=pl.List(pl.String))
