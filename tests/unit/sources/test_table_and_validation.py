import json
from datetime import datetime

import polars as pl
import pytest

from etl.config import ColumnConfig, DataConfig, ValidationConfig
from etl.errors import ConfigError, DataError, SchemaError
from etl.sources.registry import open_source
from etl.sources.report import ValidationReport
from etl.sources.validate import validate

COLUMNS = {
    "user": ColumnConfig(role="user", nullable=False),
    "price": ColumnConfig(role="numeric", minimum=0, maximum=1000),
    "tags": ColumnConfig(role="tags"),
    "when": ColumnConfig(role="timestamp"),
    "y": ColumnConfig(role="label"),
}
GOOD = pl.DataFrame(
    {
        "user": [i % 10 for i in range(400)],
        "price": [i / 4 for i in range(400)],
        "tags": [["a", "b"][: i % 3] for i in range(400)],
        "when": [datetime(2024, 1, 1 + i // 40) for i in range(400)],
        "y": [i % 2 for i in range(400)],
    }
)


def as_csv(frame: pl.DataFrame, path) -> None:
    frame.with_columns(pl.col("tags").list.join("|")).write_csv(path)


def prepare(tmp_path, path, columns=COLUMNS, **config):
    return open_source(DataConfig(source="table", path=path, columns=columns, **config), 1).prepare(tmp_path / "raw")


def check(tmp_path, frame: pl.DataFrame, columns=COLUMNS, **config) -> ValidationReport:
    frame.write_parquet(tmp_path / "t.parquet")
    return validate(prepare(tmp_path, tmp_path / "t.parquet", columns), ValidationConfig(**config), tmp_path / "v")


def failed(report: ValidationReport) -> dict[str, str]:
    return {c.name: c.detail for c in report.checks if c.status == "FAIL"}


def warned(report: ValidationReport) -> set[str]:
    return {c.name for c in report.checks if c.status == "WARN"}


def test_good_parquet_is_read_in_place_and_passes(tmp_path):
    report = check(tmp_path, GOOD)
    assert report.status == "PASS"
    assert report.clean.scan().collect().equals(GOOD.with_columns(pl.col("y")))
    assert not list((tmp_path / "raw").glob("*.parquet"))
    assert not (tmp_path / "v" / "quarantine.parquet").exists()


def test_csv_gives_the_same_rows_as_parquet(tmp_path):
    as_csv(GOOD, tmp_path / "t.csv")
    report = validate(prepare(tmp_path, tmp_path / "t.csv"), ValidationConfig(), tmp_path / "v")
    report.raise_if_failed()
    rows = report.clean.scan().collect()
    assert rows.schema["user"] == pl.Int64
    assert rows.schema["when"] == pl.Datetime("us")
    # an empty list and an empty cell are the same in a CSV: null
    assert rows.drop("tags", "y").equals(GOOD.drop("tags", "y"))
    assert rows["tags"].list.len().fill_null(0).to_list() == GOOD["tags"].list.len().to_list()


def test_every_malformed_row_goes_to_quarantine_with_its_reason(tmp_path):
    as_csv(GOOD, tmp_path / "t.csv")
    bad = [
        ("x,1,a,2024-01-05,1", "user is not int64"),
        (",1,a,2024-01-05,1", "user is null"),
        ("1.5,1,a,2024-01-05,1", "user is not int64"),
        ("1,cheap,a,2024-01-05,1", "price is not float64"),
        ("1,-3,a,2024-01-05,1", "price is below 0"),
        ("1,1e9,a,2024-01-05,1", "price is above 1000"),
        ("1,inf,a,2024-01-05,1", "price is infinite"),
        ("1,1,a,yesterday,1", "when is not datetime"),
        ("1,1,a,,1", "when is null"),
        ("1,1,a,2024-01-05,2", "y is not 0 or 1"),
        ("1,1,a,2024-01-05,", "y is null"),
        ("1,1,a,2024-01-05,1,more,and more", "more cells than columns"),
        ("x,-1,a,2024-01-05,1", "user is not int64; price is below 0"),
    ]
    with (tmp_path / "t.csv").open("a") as file:
        file.writelines(f"{line}\n" for line, _ in bad)
    dataset = prepare(tmp_path, tmp_path / "t.csv")
    report = validate(dataset, ValidationConfig(max_bad_rows=0.1), tmp_path / "v")
    report.raise_if_failed()
    kept = pl.read_parquet(report.quarantine)
    assert kept["reason"].to_list() == [reason for _, reason in bad]
    assert kept["row"].to_list() == list(range(400, 400 + len(bad)))
    assert kept["price"][3] == "cheap"
    assert (report.rows, report.quarantined, report.clean.rows) == (413, 13, 400)
    assert ValidationReport.load(tmp_path / "v") == report


def test_too_many_malformed_rows_stop_the_run_and_are_kept(tmp_path):
    broken = GOOD.with_columns(pl.when(pl.int_range(pl.len()) < 40).then(-1.0).otherwise("price").alias("price"))
    report = check(tmp_path, broken)
    with pytest.raises(DataError, match=r"40 of 400 rows \(10\.00%\): price is below 0.*at most 1\.00%") as error:
        report.raise_if_failed()
    assert error.value.exit_code == 3
    assert sorted(path.name for path in (tmp_path / "v").iterdir()) == ["quarantine.parquet", "validation.json"]
    assert pl.read_parquet(tmp_path / "v" / "quarantine.parquet").height == 40
    assert json.loads((tmp_path / "v" / "validation.json").read_text())["status"] == "FAIL"


def test_nan_counts_as_null_where_nulls_are_forbidden(tmp_path):
    columns = {**COLUMNS, "price": ColumnConfig(role="numeric", nullable=False)}
    broken = GOOD.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(float("nan")).otherwise("price").alias("price")
    )
    assert check(tmp_path, broken, columns).reasons == {"price is null": 1}


def test_numbers_that_are_no_integers_and_ints_that_are_too_large_are_refused(tmp_path):
    columns = {**COLUMNS, "user": ColumnConfig(role="user", dtype="int8")}
    broken = GOOD.with_columns(pl.when(pl.int_range(pl.len()) < 2).then(300.5).otherwise("user").alias("user"))
    assert check(tmp_path, broken, columns).reasons == {"user is not int8": 2}


@pytest.mark.parametrize(
    ("frame", "check_name", "detail"),
    [
        (GOOD.clear(), "rows", "there are none"),
        (GOOD.with_columns(price=pl.lit(None, pl.Float64)), "nulls", "nothing but nulls"),
        (GOOD.with_columns(y=pl.lit(1)), "label classes", "one class only: 1"),
        (GOOD.with_columns(user=pl.col("tags")), "type", "cannot be int64"),
    ],
)
def test_data_that_cannot_be_used_fails(tmp_path, frame, check_name, detail):
    columns = {**COLUMNS, "user": ColumnConfig(role="ignore", dtype="int64")} if check_name == "type" else COLUMNS
    if check_name == "type":
        GOOD.write_parquet(tmp_path / "t.parquet")
        dataset = prepare(tmp_path, tmp_path / "t.parquet", columns)
        frame.write_parquet(tmp_path / "t.parquet")
        report = validate(dataset, ValidationConfig(), tmp_path / "v")
    else:
        report = check(tmp_path, frame)
    assert detail in failed(report)[check_name]
    assert report.clean is None
    with pytest.raises(DataError, match=check_name):
        report.raise_if_failed()


def test_what_is_odd_but_usable_is_a_warning(tmp_path):
    odd = pl.concat([GOOD, GOOD]).with_columns(
        pl.when(pl.int_range(pl.len()) % 10 < 8).then(None).otherwise("price").alias("price"), pl.lit("x").alias("note")
    )
    columns = {**COLUMNS, "item": ColumnConfig(role="item")}
    report = check(tmp_path, odd.with_columns(pl.col("user").alias("item")), columns, min_label_share=0.5)
    assert warned(report) >= {"nulls", "unknown columns", "duplicate keys", "time order"}
    assert report.status == "WARN"
    assert report.clean.scan().collect_schema().names() == list(columns)
    assert report.table()[0][0] == "WARN"


def test_unknown_columns_fail_or_are_ignored_as_configured(tmp_path):
    more = GOOD.with_columns(pl.lit("x").alias("note"))
    assert "note" in failed(check(tmp_path, more, unknown_columns="fail"))["unknown columns"]
    assert check(tmp_path, more, unknown_columns="ignore").status == "PASS"


def test_a_column_missing_from_the_table_or_from_one_of_its_files(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    GOOD.write_parquet(folder / "a.parquet")
    with pytest.raises(SchemaError, match=r"column 'prise'.*Did you mean 'price'"):
        prepare(tmp_path, folder, {**COLUMNS, "prise": ColumnConfig(role="numeric")})
    GOOD.drop("price").write_parquet(folder / "b.parquet")
    report = validate(prepare(tmp_path, folder), ValidationConfig(), tmp_path / "v")
    assert "missing from b.parquet" in failed(report)["columns"]
    with pytest.raises(SchemaError):
        report.raise_if_failed()


def test_corrupt_files_are_named_and_nothing_is_written(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 this is not Parquet PAR1")
    with pytest.raises(DataError, match=r"t\.parquet"):
        prepare(tmp_path, path)
    GOOD.write_parquet(path, compression="uncompressed")
    dataset = prepare(tmp_path, path)
    data = bytearray(path.read_bytes())
    data[4:2000] = b"\xff" * 1996
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"t\.parquet"):
        validate(dataset, ValidationConfig(), tmp_path / "v")
    assert not (tmp_path / "v").exists()
    assert not list(tmp_path.glob(".*.tmp"))


def test_an_empty_csv(tmp_path):
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(DataError, match=r"t\.csv"):
        prepare(tmp_path, tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("user,price,tags,when,y\n")
    report = validate(prepare(tmp_path, tmp_path / "t.csv"), ValidationConfig(), tmp_path / "v")
    assert failed(report)["rows"] == "there are none"


def test_what_a_table_needs_to_be_told(tmp_path):
    GOOD.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match="It has: user, price, tags, when, y"):
        prepare(tmp_path, tmp_path / "t.parquet", {})
    with pytest.raises(ConfigError, match=r"role user.*user, price"):
        prepare(tmp_path, tmp_path / "t.parquet", {**COLUMNS, "price": ColumnConfig(role="user")})
    with pytest.raises(DataError, match="no file"):
        prepare(tmp_path, tmp_path / "*.csv")


def test_folders_globs_limits_and_types_that_are_told(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for part in range(4):
        as_csv(GOOD[part * 100 : part * 100 + 100], folder / f"{part}.csv")
    assert prepare(tmp_path, folder).rows == 400
    assert prepare(tmp_path, folder / "[01].csv").rows == 200
    assert prepare(tmp_path, folder, limit=150).rows == 150
    told = {**COLUMNS, "user": ColumnConfig(role="user", dtype="string")}
    assert prepare(tmp_path, folder, told).scan().collect().schema["user"] == pl.String
