import gzip

import polars as pl
import pytest

from etl.config import DataConfig, SplitConfig, ValidationConfig
from etl.errors import ConfigError, DataError, SchemaError
from etl.sources import movielens
from etl.sources.registry import detect, open_source
from etl.sources.report import worst
from etl.sources.split import split
from etl.sources.validate import check_splits, validate

FOLDERS = {"online-retail": "online-retail", "movielens": "movielens-latest-small", "adult": "adult"}


@pytest.fixture(scope="module")
def prepared(real_data, tmp_path_factory):
    made = {}

    def source(name):
        if name not in made:
            config = DataConfig(source=name, path=real_data / FOLDERS[name])
            made[name] = open_source(config, 1).prepare(tmp_path_factory.mktemp(name) / "data")
        return made[name]

    return source


@pytest.mark.parametrize(("name", "rows"), [("online-retail", 1_437_340), ("movielens", 100_004), ("adult", 30_162)])
def test_real_data_passes_validation_and_splits(prepared, real_data, tmp_path, name, rows):
    assert detect(real_data / FOLDERS[name]) == name
    dataset = prepared(name)
    assert dataset.rows == rows
    assert dataset.facts["licence"]
    assert dataset.facts["citation"]
    report = validate(dataset, ValidationConfig(), tmp_path / "v")
    report.raise_if_failed()
    assert report.quarantined == 0
    splits = split(report.clean, SplitConfig(), tmp_path / "s", 1)
    assert splits.by == ("random" if name == "adult" else "time")
    assert worst(check_splits(splits, ValidationConfig())) != "FAIL"


def test_retail_negatives_are_known_items_the_user_did_not_buy_that_day(prepared):
    rows = prepared("online-retail").scan().collect()
    day = pl.col("timestamp").dt.date()
    bought = rows.filter(pl.col("bought") == 1).select("user_id", "item_id", day.alias("day"))
    negatives = rows.filter(pl.col("bought") == 0).with_columns(day.alias("day"))
    assert negatives.join(bought, on=["user_id", "item_id", "day"], how="semi").height == 0
    assert rows["item_purchases"].min() >= 1
    assert rows["timestamp"].is_sorted()
    assert 0.24 < rows["bought"].mean() < 0.28


def test_retail_negatives_are_drawn_by_popularity_or_all_alike(real_data, tmp_path):
    def purchases_of_negatives(power):
        config = DataConfig(
            source="online-retail", path=real_data / "online-retail", limit=200_000, negative_power=power
        )
        rows = open_source(config, 1).prepare(tmp_path / str(power)).scan().collect()
        assert rows["item_purchases"].min() >= 1
        return rows.filter(pl.col("bought") == 0)["item_purchases"].mean()

    alike, half, by_popularity = (purchases_of_negatives(power) for power in (0.0, 0.5, 1.0))
    assert alike < 0.8 * half < 0.8 * 0.9 * by_popularity


def test_retail_features_are_what_was_known_when_the_day_began(prepared, real_data):
    rows = prepared("online-retail").scan().filter(pl.col("bought") == 1).collect()
    lines = pl.read_parquet(real_data / "online-retail" / "online_retail.parquet")
    some = rows.filter(pl.col("item_id") == "22423").sample(20, seed=1)
    good = lines.filter(
        (pl.col("StockCode") == "22423")
        & (pl.col("Quantity") > 0)
        & (pl.col("UnitPrice") > 0)
        & pl.col("CustomerID").is_not_null()
    )
    good = good.unique(["InvoiceNo", "StockCode"], keep="first", maintain_order=True)
    for row in some.iter_rows(named=True):
        before = good.filter(pl.col("InvoiceDate").dt.date() < row["timestamp"].date())
        assert row["item_purchases"] == before.height
        assert row["bought_before"] == before.filter(pl.col("CustomerID") == row["user_id"]).height
        assert row["price"] == before.sort("InvoiceDate", maintain_order=True)["UnitPrice"][-1]


def test_retail_has_no_column_that_only_a_purchase_can_have(prepared):
    rows = prepared("online-retail").scan().collect()
    assert "quantity" not in [name.lower() for name in rows.columns]
    rates = rows.group_by("bought").agg(pl.all().exclude("bought").null_count())
    assert all(rates[name].n_unique() == 1 for name in rates.columns if name != "bought")


def test_retail_as_csv_and_without_negatives(tmp_path):
    lines = [
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
        "1,10001A,RED MUG,1,2011-01-01 10:00:00,2.5,7,France",
        "2,10001a,RED MUG,2,2011-01-02 10:00:00,2.0,8,France",
        "C3,10001A,RED MUG,-1,2011-01-03 10:00:00,2.0,8,France",
        "4,POST,POSTAGE,1,2011-01-03 10:00:00,2.0,8,France",
        "5,10001A,RED MUG,1,2011-01-03 11:00:00,2.0,,France",
        "6,10001A,RED MUG,1,2011-01-04 11:00:00,3.0,7,France",
    ]
    path = tmp_path / "online_retail.csv"
    path.write_text("\n".join(lines) + "\n")
    config = DataConfig(source="online-retail", path=tmp_path, negatives=0)
    rows = open_source(config, 1).prepare(tmp_path / "out").scan().collect()
    assert rows["user_id"].to_list() == [8, 7]
    assert rows["price"].to_list() == [2.5, 2.0]
    assert rows["bought_before"].to_list() == [0, 1]
    assert rows["words"].to_list() == [["red", "mug"]] * 2
    path.write_text("InvoiceNo,StockCode\n1,2\n")
    with pytest.raises(SchemaError, match="Quantity"):
        open_source(config, 1).prepare(tmp_path / "out2")


def test_movielens_genres_year_and_label(prepared, real_data):
    rows = prepared("movielens").scan().collect()
    film = rows.filter(pl.col("item_id") == 1)
    assert film["year"].unique().to_list() == [1995.0]
    assert film["genres"][0].to_list() == ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]
    ratings = pl.read_csv(real_data / "movielens-latest-small" / "ratings.csv")
    assert rows["liked"].sum() == (ratings["rating"] >= 4).sum()
    assert rows["timestamp"].is_sorted()


OLD_FORMATS = {
    "1m": {
        "ratings.dat": "1::10::5::978300760\n2::11::3::978300700\n",
        "movies.dat": "10::Café: Lumière (2003)::Drama|War\n11::Nothing (1999)::Comedy\n",
        "users.dat": "1::F::25::4::12345\n2::M::56::16::70072\n",
    },
    "100k": {
        "u.data": "1\t10\t5\t978300760\n2\t11\t3\t978300700\n",
        "u.item": "10|Café: Lumière (2003)|01-Jan-2003||u|" + "|".join("0" * 8 + "1" + "0" * 8 + "1" + "0") + "\n"
        "11|Nothing (1999)|01-Jan-1999||u|" + "|".join("0" * 5 + "1" + "0" * 13) + "\n",
        "u.user": "1|25|F|4|12345\n2|56|M|16|70072\n",
    },
}


@pytest.mark.parametrize("version", OLD_FORMATS)
def test_the_older_formats_of_movielens(tmp_path, version):
    for name, text in OLD_FORMATS[version].items():
        (tmp_path / name).write_text(text, encoding="latin-1")
    assert detect(tmp_path) == "movielens"
    dataset = open_source(DataConfig(source="movielens", path=tmp_path), 1).prepare(tmp_path / "out")
    rows = dataset.scan().collect()
    assert rows["user_id"].to_list() == [2, 1]
    assert rows["item_id"].to_list() == [11, 10]
    assert rows["liked"].to_list() == [0, 1]
    assert rows["genres"].to_list() == [["Comedy"], ["Drama", "War"]]
    assert rows["year"].to_list() == [1999.0, 2003.0]
    assert rows["gender"].to_list() == ["M", "F"]
    assert rows["age"].to_list() == [56.0, 25.0]
    assert rows["occupation"].to_list() == ["16", "4"]


def test_movielens_sorts_files_larger_than_it_holds(real_data, tmp_path, monkeypatch, prepared):
    monkeypatch.setattr(movielens, "ROWS_AT_ONCE", 9_000)
    config = DataConfig(source="movielens", path=real_data / "movielens-latest-small")
    pieces = open_source(config, 1).prepare(tmp_path / "out").scan().collect()
    assert pieces.equals(prepared("movielens").scan().collect())


def test_movielens_rows_that_do_not_parse_go_to_quarantine(tmp_path):
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,A (2000),(no genres listed)\n")
    good = "".join(f"{i},1,{i % 5 + 1},{1_000_000 + i}\n" for i in range(300))
    (tmp_path / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n{good}x,1,4,5\n1,1,,7\n")
    dataset = open_source(DataConfig(source="movielens", path=tmp_path), 1).prepare(tmp_path / "out")
    report = validate(dataset, ValidationConfig(), tmp_path / "v")
    assert report.reasons == {"user_id is null": 1, "liked is null": 1}
    assert report.clean.scan().collect()["genres"].to_list() == [[]] * 300


@pytest.mark.parametrize("name", ["adult.data", "adult.data.gz"])
def test_adult_as_uci_publishes_it(tmp_path, name):
    text = (
        "39, State-gov, 77516, Bachelors, 13, Never-married, Sales, Own-child, White, Male, 2174, 0, 40, ?, <=50K\n"
        "50, ?, 83311, Bachelors, 13, Married-civ-spouse, Sales, Husband, White, Male, 0, 0, 13, Cuba, >50K.\n\n"
    )
    data = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    rows = open_source(DataConfig(source="adult", path=tmp_path), 1).prepare(tmp_path / "out").scan().collect()
    assert rows["label"].to_list() == [0, 1]
    assert rows["workclass"].to_list() == ["State-gov", None]
    assert rows["country"].to_list() == [None, "Cuba"]
    assert rows["age"].to_list() == [39.0, 50.0]


def test_a_limit_reads_only_so_many_rows(real_data, tmp_path):
    for name, folder in FOLDERS.items():
        config = DataConfig(source=name, path=real_data / folder, limit=1000)
        assert open_source(config, 1).prepare(tmp_path / name).rows == 1000


def test_a_folder_that_is_not_known_is_refused_with_what_is(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"ratings\.csv.*received notes\.txt.*source: table"):
        detect(tmp_path)
    with pytest.raises(ConfigError, match="no such folder"):
        detect(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="not there"):
        open_source(DataConfig(source="adult", path=tmp_path / "nowhere"), 1)
    with pytest.raises(ConfigError, match="received nothing"):
        open_source(DataConfig(source="adult"), 1)
    for source in FOLDERS:
        with pytest.raises(DataError):
            open_source(DataConfig(source=source, path=tmp_path), 1).prepare(tmp_path / "out")
        assert not (tmp_path / "out").exists()
