"""The deliberate differences of Categorify, hashes and joins: NVTabular's side, ours, and strict_nvtabular."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from etl.compiler import to_onnx, to_polars
from etl.errors import CompileError, ConfigError
from etl.fit import fit
from etl.graph import FeatureGraph
from etl.reader import hydrate, read
from tests.conformance.case import INF, Case
from tests.conformance.compare import assert_same, plain
from tests.conformance.oracle import answer, columns_of, dataset, transform, workflow
from tests.conformance.targets import TARGETS
from tests.conformance.test_differences import both, shows


def ours(case: Case, folder: Path, strict: bool = False, rows_per_slice: int = 3) -> FeatureGraph:
    """Fit the case here."""
    graph = read(workflow(case), columns_of(case.fit), strict_nvtabular=strict)
    case.fit.write_parquet(folder / "rows.parquet")
    return fit(graph, [folder / "rows.parquet"], rows_per_slice=rows_per_slice)


def strictly(case: Case) -> tuple[FeatureGraph, Any]:
    """Return the case as NVTabular fits it, read strictly, and what NVTabular gives."""
    fitted = workflow(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted.fit(dataset(case.fit))
    return read(fitted, columns_of(case.fit), strict_nvtabular=True), transform(fitted, case.serve)


def nvtabular_fails(case: Case) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it fails with
        answer(case)
    assert not isinstance(caught.value, CompileError | ConfigError)


def test_a_null_in_a_list_is_unknown_if_strict() -> None:
    frame = pl.DataFrame({"l": [["a", None], ["a", "q"]]})
    case = Case("list", lambda o: ["l"] >> o.Categorify(), fit=pl.DataFrame({"l": [["a", "b"], ["a"]]}), serve=frame)
    graph, expected = strictly(case)
    assert plain(expected["l"].tolist()) == TARGETS["polars"](graph, frame)["l"] == [[3, 2], [3, 2]]


def test_a_single_table_is_repeated_if_strict(tmp_path: Path) -> None:
    frame = pl.DataFrame({"s": ["b", "b", "a", "a", "a", "c"], "t": ["x", "y", "y", "y", "z", "z"]})
    serve = pl.DataFrame({"s": ["a", "b", "c", None, "new"], "t": ["x", "y", "z", None, "new"]})
    case = Case("single", lambda o: ["s", "t"] >> o.Categorify(single_table=True), fit=frame, serve=serve)
    graph, expected = strictly(case)
    for name in ("s", "t"):
        assert_same(name, expected[name].tolist(), both(graph, serve, name))
        assert both(graph, serve, name)[3] == both(graph, serve, name)[0 if name == "s" else 1], "null is a category"
    assert both(ours(case, tmp_path, strict=True), serve, "s") == both(graph, serve, "s")


@shows("name-separator")
def test_a_separator_does_not_change_codes(tmp_path: Path) -> None:
    frame = pl.DataFrame({"s": ["a", "b", "b", "b"]})
    case = Case("name-sep", lambda o: ["s"] >> o.Categorify(name_sep="-", freq_threshold=2), fit=frame, serve=frame)
    assert answer(case).expected["s"].tolist() == [3, 4, 4, 4]
    assert both(ours(case, tmp_path), frame, "s") == [2, 3, 3, 3]


@shows("combined-limits")
def test_a_limit_of_a_combination_is_its_own(tmp_path: Path) -> None:
    frame = pl.DataFrame({"s": ["a", "a", "b"], "t": ["x", "x", "y"]})
    limits = {"s": 3, "t": 3, "s_t": 1}
    case = Case(
        "limits",
        lambda o: [["s", "t"]] >> o.Categorify(encode_type="combo", freq_threshold=limits),
        fit=frame,
        serve=frame,
    )
    assert answer(case).expected["s_t"].tolist() == [2, 2, 2]
    assert both(ours(case, tmp_path), frame, "s_t") == [3, 3, 4]
    assert both(ours(case, tmp_path, strict=True), frame, "s_t") == [2, 2, 2]


@shows("given-vocabularies")
def test_given_vocabularies_begin_after_the_buckets(tmp_path: Path) -> None:
    frame = pl.DataFrame({"s": ["a", "b", None]})
    case = Case(
        "given",
        lambda o: ["s"] >> o.Categorify(vocabs={"s": pd.Series(["b", "a"])}, num_buckets=4),
        fit=frame,
        serve=frame,
    )
    found = answer(case)
    assert found.expected["s"].tolist() == [10, 9, 1]
    assert both(found.graph, frame, "s") == [7, 6, 1]
    assert found.graph.output_columns[0].cardinality == 8
    graph, _ = strictly(case)
    assert both(graph, frame, "s") == [10, 9, 1]
    assert graph.output_columns[0].cardinality == 11


@shows("hashed-lists")
def test_the_elements_of_lists_are_hashed(tmp_path: Path) -> None:
    frame = pl.DataFrame({"l": [["a", "b"], [], ["b", "q", "a"]]})
    case = Case("lists", lambda o: ["l"] >> o.HashBucket(100), fit=frame, serve=frame)
    nvtabular_fails(case)
    graph = ours(case, tmp_path)
    first, empty, last = TARGETS["polars"](graph, frame)["l"]
    assert empty == []
    assert first == [last[2], last[0]]
    assert plain(transform(hydrate(graph, tmp_path / "w"), frame)["l"].tolist()) == [first, empty, last]
    spread = Case("spread", lambda o: ["l"] >> o.Categorify(num_buckets=5, freq_threshold=2), fit=frame, serve=frame)
    nvtabular_fails(spread)
    graph = ours(spread, tmp_path)
    found = TARGETS["polars"](graph, frame)["l"]
    assert found[0] == [7, 8]
    assert 2 <= found[2][1] < 7
    assert plain(transform(hydrate(graph, tmp_path / "x"), frame)["l"].tolist()) == found


_GROUPS = pl.DataFrame({"k": ["a", "a", None, None, "b"], "x": [1.0, None, 3.0, 5.0, 7.0]})


@shows("null-key")
def test_rows_without_a_key_are_a_group(tmp_path: Path) -> None:
    case = Case(
        "null-key", lambda o: ["k"] >> o.JoinGroupby(cont_cols=["x"], stats=["count", "mean"]), _GROUPS, _GROUPS
    )
    expected = answer(case).expected
    assert expected["k_count"].tolist() == [2, 2, 0, 0, 1]
    assert expected["k_x_mean"].tolist() == [0.5, 0.5, INF, INF, 7.0]
    graph = ours(case, tmp_path)
    assert both(graph, _GROUPS, "k_count") == [2, 2, 2, 2, 1]
    assert both(graph, _GROUPS, "k_x_mean") == [1.0, 1.0, 4.0, 4.0, 7.0]
    strict = ours(case, tmp_path, strict=True)
    for name in ("k_count", "k_x_mean"):
        assert_same(name, expected[name].tolist(), both(strict, _GROUPS, name))


@shows("null-values")
def test_unknown_values_do_not_count(tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": ["a", "a", "a", "b"], "x": [1.0, None, 4.0, 7.0]})
    stats = ["mean", "var", "std"]
    case = Case("null-values", lambda o: ["k"] >> o.JoinGroupby(cont_cols=["x"], stats=stats), frame, frame)
    expected = answer(case).expected
    assert expected["k_x_mean"][0] == pytest.approx(5 / 3)
    graph = ours(case, tmp_path)
    assert both(graph, frame, "k_x_mean")[0] == 2.5
    assert both(graph, frame, "k_x_var")[0] == 4.5
    strict = ours(case, tmp_path, strict=True)
    for stat in stats:
        assert_same(stat, expected[f"k_x_{stat}"].tolist(), both(strict, frame, f"k_x_{stat}"))


@shows("unknown-group")
def test_an_unknown_group_has_no_rows(tmp_path: Path) -> None:
    new = pl.DataFrame({"k": ["b", "new"], "x": [0.0, 0.0]})
    case = Case("unknown", lambda o: ["k"] >> o.JoinGroupby(cont_cols=["x"], stats=["count"]), _GROUPS, new)
    nvtabular_fails(case)
    assert both(ours(case, tmp_path), new, "k_count") == [1, 0]


@shows("group-types")
def test_statistics_of_integers_are_floats(tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": ["a", "a", "b"], "x": [1, 2, 3]})
    serve = pl.DataFrame({"k": ["a", "new"], "x": [0, 0]})
    case = Case("types", lambda o: ["k"] >> o.JoinGroupby(cont_cols=["x"], stats=["sum"]), frame, frame)
    assert answer(case).expected["k_x_sum"].dtype == "int64"
    unknown = Case("types", lambda o: ["k"] >> o.JoinGroupby(cont_cols=["x"], stats=["sum"]), frame, serve)
    assert answer(unknown).expected["k_x_sum"].dtype == "float64"
    assert to_polars(ours(case, tmp_path)).apply(frame.lazy()).collect_schema() == {"k_x_sum": pl.Float64}


@shows("key-alone")
def test_a_key_alone_and_in_a_tuple(tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": ["a", "a", "b"], "m": ["p", "q", "q"], "x": [1, 2, 3]})
    case = Case(
        "alone", lambda o: ["k", ["k", "m"]] >> o.JoinGroupby(cont_cols=["x"], stats=["sum"]), fit=frame, serve=frame
    )
    nvtabular_fails(case)
    graph = ours(case, tmp_path)
    assert both(graph, frame, "k_x_sum") == [3, 3, 3]
    assert both(graph, frame, "k_m_x_sum") == [1, 2, 3]
    with pytest.raises(CompileError, match="stands alone and in a tuple"):
        hydrate(graph, tmp_path / "workflow")


def test_columns_may_be_called_as_tables_call_them(tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": ["a", "b", "a", "b"], "value": [1.0, 2.0, 3.0, 6.0], "fold": [1, 0, 0, 1]})
    columns = ["value", "fold"]
    case = Case("names", lambda o: ["k"] >> o.JoinGroupby(cont_cols=columns, stats=["mean"]), frame, frame)
    graph = ours(case, tmp_path)
    assert both(graph, frame, "k_value_mean") == [2.0, 4.0, 2.0, 4.0]
    case = Case("names", lambda o: ["k"] >> o.TargetEncoding(columns, kfold=2, p_smooth=0), frame, frame)
    assert both(ours(case, tmp_path), frame, "TE_k_fold") == [0.5] * 4


def _target_rows(rows: int = 60) -> pl.DataFrame:
    numbers = pl.Series("n", range(rows))
    return pl.DataFrame(
        {"k": (numbers % 4).cast(pl.String), "y": ((numbers * 31 + 7) % 11 < 2 + 2 * (numbers % 4)).cast(pl.Int64)}
    )


@shows("folds")
def test_folds_are_for_training_rows_only(tmp_path: Path) -> None:
    frame = _target_rows()
    case = Case("folds", lambda o: ["k"] >> o.TargetEncoding("y", kfold=3, p_smooth=2), fit=frame, serve=frame)
    graph = ours(case, tmp_path)
    name = "TE_k_y"
    whole = both(graph, frame, name)
    assert len(set(whole)) == 4, "one value for each key"
    training = to_polars(graph, out_of_fold=True)
    rows = training.apply(frame.lazy()).collect()[name]
    assert rows.n_unique() > 4
    halves = [training.apply(frame[:25].lazy()), training.apply(frame[25:].lazy(), first_row=25)]
    assert pl.concat(halves).collect()[name].equals(rows), "parts of the rows have the same folds"
    assert ours(case, tmp_path, rows_per_slice=7).fingerprint == graph.fingerprint
    _check_out_of_fold(graph, frame, rows)
    hydrated = transform(hydrate(graph, tmp_path / "w"), frame)[name].tolist()
    assert_same(name, hydrated, whole)
    expected = answer(case).expected[name].tolist()
    assert len(set(expected)) > 4, "NVTabular draws folds in serving"
    strict, received = strictly(case)
    assert_same(name, received[name].tolist(), TARGETS["polars"](strict, frame)[name])
    again = ours(case, tmp_path, strict=True)
    assert_same(name, expected, TARGETS["polars"](again, frame)[name])
    with pytest.raises(CompileError, match=r"other rows than the request's|drawn by row number"):
        to_onnx(strict)


def _check_out_of_fold(graph: FeatureGraph, frame: pl.DataFrame, rows: pl.Series) -> None:
    """Every row is encoded with the rows of its key in the other folds, by the definition."""
    from etl.compiler.murmur import hash_series

    numbers = pl.Series(range(frame.height), dtype=pl.Int64)
    folds = pl.Series("fold", hash_series(numbers + 42 * 2**32) % 3)
    mean = frame["y"].mean()
    known = frame.with_columns(folds)
    for row, (key, _, fold) in enumerate(known.iter_rows()):
        others = known.filter((pl.col("k") == key) & (pl.col("fold") != fold))["y"]
        assert rows[row] == pytest.approx((others.sum() + 2 * mean) / (others.len() + 2), rel=1e-6)  # type: ignore[operator]


def test_training_rows_need_folds_of_our_own() -> None:
    frame = _target_rows()
    found = answer(Case("theirs", lambda o: ["k"] >> o.TargetEncoding("y", kfold=3), fit=frame, serve=frame))
    assert len(set(both(found.graph, frame, "TE_k_y"))) == 4
    with pytest.raises(CompileError, match="Fit again with Mews"):
        to_polars(found.graph, out_of_fold=True)


def test_shown_folds_are_those_of_the_rows(tmp_path: Path) -> None:
    frame = _target_rows()
    case = Case(
        "shown", lambda o: ["k"] >> o.TargetEncoding("y", kfold=3, drop_folds=False, fold_seed=None), frame, frame
    )
    graph = ours(case, tmp_path)
    expected = answer(case).expected["__fold__"].tolist()
    assert TARGETS["polars"](graph, frame)["__fold__"] == expected == [row % 3 for row in range(frame.height)]
    with pytest.raises(CompileError, match="other rows than the request's"):
        to_onnx(graph)


def test_serving_does_not_need_the_target(tmp_path: Path) -> None:
    frame = _target_rows()
    graph = ours(Case("label", lambda o: ["k"] >> o.TargetEncoding("y", kfold=2), fit=frame, serve=frame), tmp_path)
    served = graph.remove_inputs(["y"])
    assert [column.name for column in served.inputs] == ["k"]
    assert both(served, frame.select("k"), "TE_k_y") == both(graph, frame, "TE_k_y")


@shows("target-mean")
def test_a_given_mean_is_used(tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": ["a", "b"], "y": [1, 0]})
    serve = pl.DataFrame({"k": ["new"], "y": [0]})
    for given in (0.25, {"y": 0.25}):
        case = Case("mean", lambda o, m=given: ["k"] >> o.TargetEncoding("y", kfold=1, target_mean=m), frame, serve)
        nvtabular_fails(case)
        assert both(ours(case, tmp_path), serve, "TE_k_y") == [0.25]


@shows("out-column")
def test_encodings_have_the_given_names(tmp_path: Path) -> None:
    frame = pl.DataFrame({"k": ["a", "b"], "y": [1, 0]})
    case = Case("out", lambda o: ["k"] >> o.TargetEncoding("y", kfold=1, out_col="encoded", p_smooth=0), frame, frame)
    nvtabular_fails(case)
    assert both(ours(case, tmp_path), frame, "encoded") == [1.0, 0.0]


def _external(*keys: str) -> pd.DataFrame:
    return pd.DataFrame({"k": keys, "w": range(len(keys))})


@shows("external-rows")
def test_a_join_that_changes_rows_is_refused() -> None:
    frame = pl.DataFrame({"s": ["a", "b"]})
    twice = Case("twice", lambda o: ["s"] >> o.JoinExternal(_external("a", "a"), on="s", on_ext="k"), frame, frame)
    with pytest.raises(ConfigError, match="every key once"):
        read(workflow(twice), columns_of(frame))
    inner = Case(
        "inner", lambda o: ["s"] >> o.JoinExternal(_external("a"), on="s", on_ext="k", how="inner"), frame, frame
    )
    with pytest.raises(CompileError, match="drops rows without a match"):
        read(workflow(inner), columns_of(frame))
    clash = Case("clash", lambda o: ["s", "w"] >> o.JoinExternal(_external("a"), on="s", on_ext="k"), frame, frame)
    with pytest.raises(ConfigError, match="columns of other names"):
        read(workflow(clash), columns_of(frame.with_columns(w=1)))


@shows("external-types")
def test_an_external_integer_stays_one() -> None:
    known, unknown = pl.DataFrame({"s": ["a", "b"]}), pl.DataFrame({"s": ["a", "q"]})

    def build(o: Any) -> Any:
        return ["s"] >> o.JoinExternal(_external("a", "b"), on="s", on_ext="k")

    assert answer(Case("external", build, known, known)).expected["w"].dtype == "int64"
    found = answer(Case("external", build, known, unknown))
    assert found.expected["w"].dtype == "float64"
    assert both(found.graph, unknown, "w") == [0, None]


@shows("no-such-row")
def test_a_number_that_is_no_row_is_not_similar(tmp_path: Path) -> None:
    from scipy.sparse import coo_matrix

    frame = pl.DataFrame({"a": [0, 1, 2, -1, 7, None], "b": [0, 1, 1, 0, 0, 0]})
    matrix = coo_matrix([[1.0, 2.0], [0.0, 3.0], [0.0, 0.0]])
    build = lambda o: [["a", "b"]] >> o.ColumnSimilarity(matrix, metric="inner", on_device=False)  # noqa: E731
    graph = read(workflow(Case("rows", build, frame, frame)), columns_of(frame))
    assert both(graph, frame, "a_b_sim") == [5.0, 9.0, 0.0, None, None, None]
    assert plain(transform(hydrate(graph, tmp_path / "w"), frame)["a_b_sim"].tolist()) == both(graph, frame, "a_b_sim")


def test_hydrated_hashes_need_no_mews(tmp_path: Path) -> None:
    import subprocess
    import sys

    frame = pl.DataFrame({"s": ["a", "b", None, "é"], "i": [1, 2, 3, 4]})
    case = Case("saved", lambda o: [["s", "i"]] >> o.HashedCross(1000), fit=frame, serve=frame)
    graph = ours(case, tmp_path)
    with tempfile.TemporaryDirectory() as folder:
        hydrate(graph, tmp_path / "w").save(folder)
        frame.write_parquet(Path(folder) / "rows.parquet")
        code = (
            "import sys, warnings; warnings.simplefilter('ignore')\n"
            "sys.modules['etl'] = None\n"
            "import nvtabular, pandas\n"
            f"w = nvtabular.Workflow.load({folder!r})\n"
            f"rows = pandas.read_parquet({folder!r} + '/rows.parquet')\n"
            "print(w.transform(nvtabular.Dataset(rows, cpu=True)).to_ddf().compute()['s_X_i'].tolist())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)
    assert done.stdout.strip().splitlines()[-1:] == [str(both(graph, frame, "s_X_i"))], done.stderr[-2000:]


def test_keys_and_targets_that_are_made(tmp_path: Path) -> None:
    """Not a difference: what operators made is a key or a target like others; only writing back has limits."""
    frame = _target_rows(20)
    cases = {
        "TE_k_y": Case(
            "made",
            lambda o: (["k"] >> o.Categorify()) >> o.TargetEncoding(["y"] >> o.LogOp(), kfold=1),
            frame,
            frame,
        ),
        "k_y_mean": Case(
            "keys", lambda o: ["k"] >> o.Categorify() >> o.JoinGroupby(cont_cols=["y"], stats=["mean"]), frame, frame
        ),
    }
    for name, case in cases.items():
        found = answer(case)
        assert list(found.expected.columns) == [name]
        graph = ours(case, tmp_path)
        for made in (graph, found.graph):
            assert_same(name, found.expected[name].tolist(), both(made, frame, name))
    assert_same(
        "k_y_mean",
        transform(hydrate(graph, tmp_path / "w"), frame)["k_y_mean"].tolist(),
        both(graph, frame, "k_y_mean"),
    )
    with pytest.raises(CompileError, match="columns that are made, not raw"):
        hydrate(ours(cases["TE_k_y"], tmp_path), tmp_path / "x")


def test_training_files_hold_other_folds_whatever_their_parts(tmp_path: Path) -> None:
    from etl.batch import transform as write

    frame = _target_rows(100)
    graph = ours(Case("files", lambda o: ["k"] >> o.TargetEncoding("y", kfold=4), fit=frame, serve=frame), tmp_path)
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    frame[:33].write_parquet(paths[0])
    frame[33:].write_parquet(paths[1])
    found = []
    for rows in (7, 1000):
        made = write(graph, paths, tmp_path / f"out_{rows}", rows_per_file=rows, out_of_fold=True)
        found.append(pl.read_parquet([str(file) for file in made.files])["TE_k_y"])
    assert found[0].equals(found[1])
    assert found[0].equals(to_polars(graph, out_of_fold=True).apply(frame.lazy()).collect()["TE_k_y"])
    served = write(graph, paths, tmp_path / "served")
    assert pl.read_parquet(str(served.files[0]))["TE_k_y"].n_unique() == 4
