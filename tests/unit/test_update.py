"""Updates: equal to a fit on all rows, codes never move, values age out and come back, and nothing foreign is mixed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.compiler import to_onnx, to_polars
from etl.errors import ArtifactError, ConfigError, SchemaError
from etl.fit import fit, fit_statistics
from etl.fit.statistics import Statistics
from etl.fit.update import Ageing, Updated, update
from etl.graph import INPUT, Column, FeatureGraph, OpNode, Ref
from etl.reader import door, hydrate
from tests.fitted import CASES, FITTED, ROWS, rows, write
from tests.fitted import graph as whole_graph

INPUTS = (Column("s", "string"), Column("f", "float64"))


def node(op: str, column: str, dtype: str = "float64", source: str = INPUT, **params: Any) -> OpNode:
    return OpNode(op, op, (Ref(source, column),), (Column(column, dtype),), params)


def graph(**params: Any) -> FeatureGraph:
    categorify = node("Categorify", "s", "int64", **params)
    return FeatureGraph(
        INPUTS, (categorify, node("Normalize", "f"), node("NormalizeMinMax", "f")), (Ref("Categorify", "s"),)
    )


def frame(words: str, seed: float = 0.1) -> pl.DataFrame:
    numbers = [seed * n for n, _ in enumerate(words)]
    return pl.DataFrame({"s": list(words), "f": numbers}, schema={"s": pl.String, "f": pl.Float64})


class Steps:
    """Fits the first words, then adds others."""

    def __init__(self, folder: Path, words: str, **params: Any) -> None:
        self.folder, self.number = folder, 0
        self.graph, self.statistics = fit_statistics(graph(**params), [self.write(words)])

    def write(self, words: str) -> Path:
        self.number += 1
        path = self.folder / f"{self.number}.parquet"
        frame(words, self.number / 7).write_parquet(path)
        return path

    def add(self, words: str, rule: Ageing | None = None) -> Updated:
        done = update(self.graph, self.statistics, [self.write(words)], rule)
        self.graph, self.statistics = done.graph, done.statistics
        return done

    def codes(self, words: str) -> list[int]:
        return to_polars(self.graph).apply(frame(words).lazy()).collect()["s"].to_list()

    def refit(self) -> FeatureGraph:
        return fit(self.graph, [self.folder / f"{number + 1}.parquet" for number in range(self.number)])


WORDS = st.text(alphabet="abcdefgh", max_size=30)


@settings(max_examples=25)
@given(first=WORDS, more=st.lists(WORDS, min_size=1, max_size=3))
def test_updates_equal_a_fit_on_all_rows(first: str, more: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    steps = Steps(tmp_path_factory.mktemp("steps"), first)
    sizes = [steps.graph.output_columns[0].cardinality]
    for words in more:
        before = steps.codes("abcdefgh")
        steps.add(words)
        sizes.append(steps.graph.output_columns[0].cardinality)
        after = steps.codes("abcdefgh")
        assert all(old in (2, new) for old, new in zip(before, after, strict=True))
    whole = steps.refit()
    for mine, theirs in zip(steps.graph.nodes[1:], whole.nodes[1:], strict=True):
        assert mine.state is not None
        assert theirs.state is not None
        assert all(table.equals(theirs.state[key]) for key, table in mine.state.items())
    mine_counts, all_counts = ((g.nodes[0].state or {})["s"].sort("value") for g in (steps.graph, whole))
    assert mine_counts.equals(all_counts)
    assert sizes == sorted(sizes, key=lambda size: size or 0)


def test_new_values_follow_the_old_ones_by_falling_count(tmp_path: Path) -> None:
    steps = Steps(tmp_path, "aab")
    assert steps.codes("abcdx") == [3, 4, 2, 2, 2]
    done = steps.add("bbbbdcc")
    assert steps.codes("abcdx") == [3, 4, 5, 6, 2]
    (change,) = done.changes.vocabularies
    assert (change.old_size, change.new_size, change.left_out) == (5, 7, 0)
    assert change.appended.to_dicts() == [{"value": "c", "count": 2, "code": 5}, {"value": "d", "count": 1, "code": 6}]


def test_thresholds_look_at_all_counts_and_sizes_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    counted = Steps(tmp_path / "a", "aab", freq_threshold=2)
    assert counted.codes("ab") == [3, 2]
    counted.add("bc")
    assert counted.codes("abc") == [3, 4, 2]
    sized = Steps(tmp_path / "b", "aab", max_size=6)
    done = sized.add("ccddde")
    assert sized.codes("abcde") == [3, 4, 2, 5, 2]
    assert done.changes.vocabularies[0].left_out == 2


def test_values_age_out_as_tombstones_and_return_to_their_codes(tmp_path: Path) -> None:
    steps = Steps(tmp_path, "aabc")
    done = steps.add("ad", Ageing(unseen=1))
    assert steps.codes("abcd") == [3, 2, 2, 6]
    assert steps.graph.output_columns[0].cardinality == 7
    assert done.changes.vocabularies[0].aged_out["code"].to_list() == [4, 5]
    steps.graph.save(tmp_path / "graph")
    assert FeatureGraph.load(tmp_path / "graph") == steps.graph
    done = steps.add("bda", Ageing(unseen=1))
    assert steps.codes("abcd") == [3, 4, 2, 6]
    assert done.changes.vocabularies[0].returned["value"].to_list() == ["b"]
    steps.add("a", Ageing(min_count=3))
    assert steps.codes("abcd") == [3, 2, 2, 2]


def test_statistics_and_changes_survive_the_disk(tmp_path: Path) -> None:
    steps = Steps(tmp_path, "aab")
    steps.statistics.save(tmp_path / "statistics")
    loaded = Statistics.load(tmp_path / "statistics")
    path = steps.write("bcc")
    done, again = (update(steps.graph, each, [path]) for each in (steps.statistics, loaded))
    assert done.graph.fingerprint == again.graph.fingerprint
    again.statistics.save(tmp_path / "statistics")
    assert Statistics.load(tmp_path / "statistics").updates == 2
    done.changes.save(tmp_path / "changes")
    told = json.loads((tmp_path / "changes" / "changes.json").read_text())
    (vocabulary,) = told["vocabularies"]
    assert (vocabulary["old_size"], vocabulary["new_size"], vocabulary["appended"]) == (5, 6, 1)
    assert pl.read_parquet(tmp_path / "changes" / vocabulary["files"]["appended"])["value"].to_list() == ["c"]
    moments = next(each for each in told["columns"] if each["node"] == "Normalize")
    assert (moments["before"]["count"], moments["after"]["count"]) == (3, 6)


@pytest.mark.parametrize("damage", ["truncate", "change", "remove", "json"])
def test_damaged_statistics_are_refused(damage: str, tmp_path: Path) -> None:
    steps = Steps(tmp_path, "aab")
    folder = tmp_path / "statistics"
    steps.statistics.save(folder)
    file = folder / "tables.0.parquet"
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:50])
    elif damage == "change":
        pl.read_parquet(file).with_columns(count=pl.col("count") + 1).write_parquet(file)
    elif damage == "remove":
        file.unlink()
    else:
        (folder / "statistics.json").write_text('{"format": "other"}')
    with pytest.raises(ArtifactError, match="statistics"):
        Statistics.load(folder)


def _rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "statistics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _of_first_file(folder: Path, **changes: Any) -> None:
    first, *rest = json.loads((folder / "statistics.json").read_text())["files"]
    _rewrite(folder, files=[first | changes, *rest])


def _link(folder: Path) -> None:
    file = folder / "tables.0.parquet"
    file.rename(folder.parent / "elsewhere.parquet")
    file.symlink_to(folder.parent / "elsewhere.parquet")


def _bomb(folder: Path) -> None:
    rows = pl.select(value=pl.repeat("", 20_000_000), count=pl.repeat(1, 20_000_000))
    rows.write_parquet(folder / "tables.0.parquet")


HOSTILE: dict[str, Any] = {
    "a link": _link,
    "a table larger than its file": _bomb,
    "rows as text": lambda folder: _rewrite(folder, rows="3"),
    "rows that are true": lambda folder: _rewrite(folder, rows=True),
    "fewer rows than none": lambda folder: _rewrite(folder, rows=-1),
    "updates beyond int64": lambda folder: _rewrite(folder, updates=2**63),
    "files that are no list": lambda folder: _rewrite(folder, files={"a": 1}),
    "a file that is no text": lambda folder: _of_first_file(folder, file=["tables.0.parquet"]),
    "a file elsewhere": lambda folder: _of_first_file(folder, file="../1.parquet"),
    "a file of no kind": lambda folder: _of_first_file(folder, kind="other"),
    "a file twice": lambda folder: _rewrite(
        folder, files=json.loads((folder / "statistics.json").read_text())["files"][:1] * 2
    ),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_statistics_are_refused(change: Any, tmp_path: Path) -> None:
    folder = tmp_path / "statistics"
    Steps(tmp_path, "aab").statistics.save(folder)
    change(folder)
    with pytest.raises(ArtifactError, match="statistics"):
        Statistics.load(folder)


@pytest.mark.parametrize(
    "column", [pl.lit("0x1p99999999999").alias("sum"), pl.lit("one").alias("sum"), pl.lit(1).alias("count"), None]
)
def test_tables_of_other_types_or_values_are_not_added_to(column: pl.Expr | None, tmp_path: Path) -> None:
    steps = Steps(tmp_path, "aab")
    tables = dict(steps.statistics.tables)
    moments = tables.pop(("Normalize", "moments"))
    if column is not None:
        tables["Normalize", "moments"] = moments.with_columns(column)
    with pytest.raises(ArtifactError, match=r"statistics of .*moments"):
        update(steps.graph, replace(steps.statistics, tables=tables), [steps.write("b")])


def test_what_cannot_be_updated_is_refused(tmp_path: Path) -> None:
    steps = Steps(tmp_path, "aab")
    path = steps.write("b")
    other = Steps(tmp_path, "aab", freq_threshold=2)
    with pytest.raises(ArtifactError, match="statistics"):
        update(other.graph, steps.statistics, [path])
    with pytest.raises(ConfigError, match="a fitted graph"):
        update(graph(), steps.statistics, [path])
    frame("a").drop("f").write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(SchemaError, match=r"bad\.parquet.*'f' is missing"):
        update(steps.graph, steps.statistics, [path, tmp_path / "bad.parquet"])
    chain = FeatureGraph(INPUTS, (node("Normalize", "f"), node("NormalizeMinMax", "f", source="Normalize")), ())
    fitted, statistics = fit_statistics(chain, [path])
    with pytest.raises(ConfigError, match="NormalizeMinMax cannot be updated"):
        update(fitted, statistics, [path])


@pytest.mark.parametrize("op", FITTED)
def test_every_operator_is_updated_to_what_a_refit_finds_or_refused(op: str, tmp_path: Path) -> None:
    frame, of = rows(), whole_graph(*(node for node in CASES[op] if not node.params.get("max_size")))
    (old,) = write(tmp_path, frame[: ROWS // 2], 1)
    fitted, statistics = fit_statistics(of, [old])
    statistics.save(tmp_path / "statistics")
    (tmp_path / "new").mkdir()
    new = write(tmp_path / "new", frame[ROWS // 2 :], 3)
    if op in ("ReduceDtypeSize", "DropLowCardinality"):
        with pytest.raises(ConfigError, match=f"{op} cannot be updated: .*decided by the old rows"):
            update(fitted, Statistics.load(tmp_path / "statistics"), new)
        return
    done = update(fitted, Statistics.load(tmp_path / "statistics"), new, rows_per_slice=400)
    assert done.graph.fingerprint != fitted.fingerprint or op == "ValueCount"
    for mine, theirs in zip(done.graph.nodes, fit(of, [old, *new]).nodes, strict=True):
        states = [{key: in_order(op, table) for key, table in (node.state or {}).items()} for node in (mine, theirs)]
        assert states[0].keys() == states[1].keys()
        assert all(table.equals(states[1][key]) for key, table in states[0].items())


def in_order(op: str, table: pl.DataFrame) -> pl.DataFrame:
    return table.sort(pl.exclude("count"), nulls_last=True) if op == "Categorify" else table


def test_onnx_and_nvtabular_do_not_know_aged_out_values(tmp_path: Path) -> None:
    from onnxruntime import InferenceSession

    steps = Steps(tmp_path, "aabc")
    steps.add("ad", Ageing(unseen=1))
    expected = [3, 2, 2, 6, 2]
    assert steps.codes("abcdx") == expected
    session = InferenceSession(to_onnx(steps.graph).SerializeToString())
    words = np.array([[word] for word in "abcdx"], dtype=object)
    (served,) = session.run(None, {"s": words, "f": np.zeros((5, 1))})
    assert served.ravel().tolist() == expected
    with door.quiet():
        data = door.nvtabular().Dataset(frame("abcdx").to_pandas(), cpu=True)
        made = hydrate(steps.graph, tmp_path / "workflow").transform(data).to_ddf().compute()
    assert made["s"].tolist() == expected
