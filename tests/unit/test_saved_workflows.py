"""Workflows that NVTabular saved are read as graphs; whatever else lies in such a folder is refused and never run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etl.errors import ArtifactError, CompileError, ConfigError, MewsError
from etl.graph import Column, FeatureGraph
from etl.reader import door, read
from etl.reader.saved import load_workflow
from etl.reader.saved.graph_json import read_graph
from etl.reader.saved.process import read_apart
from etl.reader.saved.unpickle import loads
from tests.saved.workflow import fitted

SAVED = Path(__file__).resolve().parents[1] / "saved" / "nvtabular_graph"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fitted(tmp_path_factory.mktemp("live"))


@pytest.fixture(scope="module")
def graph(live: Any) -> FeatureGraph:
    return read(live)


@pytest.fixture(scope="module")
def pickled(live: Any, graph: FeatureGraph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that NVTabular's own save wrote (after `graph` was read: saving moves the tables), moved away."""
    folder = tmp_path_factory.mktemp("pickled")
    live.save(str(folder / "written"))
    return Path(shutil.move(folder / "written", folder / "moved"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A copy of a graph.json folder of NVTabular, to be tampered with."""
    return Path(shutil.copytree(SAVED, tmp_path / "saved"))


def changed(folder: Path, change: Change) -> Path:
    document = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
    change(document)
    (folder / "graph.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def node(document: dict[str, Any], operator: str) -> dict[str, Any]:
    """The first node of an operator."""
    return next(node for node in document["nodes"] if node["op_class"].endswith(f".{operator}"))


# What is read


def test_a_pickled_workflow_is_read_as_the_live_one(pickled: Path, graph: FeatureGraph) -> None:
    assert load_workflow(pickled, trust_pickle=True) == graph


def test_a_graph_json_is_read_as_the_live_workflow_whatever_the_order_of_its_nodes(
    saved: Path, graph: FeatureGraph
) -> None:
    document = json.loads((saved / "graph.json").read_text(encoding="utf-8"))
    needs = [(one["id"], above) for one in document["nodes"] for above in one["parent_ids"] + one["dependency_ids"]]
    assert any(above > number for number, above in needs), "the example is to have a child before its parent"
    assert load_workflow(saved) == graph
    assert load_workflow(changed(saved, lambda document: document["nodes"].reverse())) == graph


def test_a_feature_graph_and_a_function_are_read_too(graph: FeatureGraph, tmp_path: Path) -> None:
    graph.save(tmp_path / "graph")
    assert load_workflow(tmp_path / "graph") == graph
    (tmp_path / "mine.py").write_text(
        "import nvtabular as nvt\ndef features():\n    return nvt.Workflow(['age'] >> nvt.ops.LogOp())\n"
    )
    found = load_workflow(f"{tmp_path / 'mine.py'}:features", inputs=[Column("age", "int64")])
    assert [one.op for one in found.nodes] == ["LogOp"]


def test_other_versions_are_told(saved: Path) -> None:
    said: list[str] = []
    load_workflow(saved, say=said.append)
    assert said == []
    versions = {"nvtabular": "99.01.00", "cudf": "99.02", "python": "3.8"}
    (saved / "metadata.json").write_text(json.dumps({"versions": versions}))
    load_workflow(saved, say=said.append)
    assert len(said) == 2
    assert "saved by NVTabular 99.01.00" in said[0]
    assert "GPU" in said[1]
    (saved / "metadata.json").unlink()
    with pytest.warns(UserWarning, match="is not known"):
        load_workflow(saved)


def test_raw_columns_may_be_given(saved: Path) -> None:
    columns = [Column("price", "float32"), Column("age", "int32"), Column("user", "int64")]
    more = [Column(name, "string") for name in ("country", "first", "second")]
    found = load_workflow(saved, inputs=[*columns, *more, Column("tags", "string", is_list=True)])
    assert {column.name: column.dtype for column in found.inputs}["age"] == "int32"


# Pickles


def test_a_pickle_is_not_read_unless_it_is_trusted(pickled: Path) -> None:
    with pytest.raises(ConfigError, match=r"which can run any code.*--trust-pickle.*file\.py:function"):
        load_workflow(pickled)


class _Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def _stack_global(module: str, name: str, argument: str) -> bytes:
    """Protocol 4: look `name` up in `module`, then call it with a string."""
    texts = b"".join(
        b"\x8c" + bytes([len(text)]) + text.encode() + (b"\x93" if number == 1 else b"")
        for number, text in enumerate((module, name, argument))
    )
    return b"\x80\x04" + texts + b"\x85R."


MARK = "touched by a pickle"
HOSTILE = {
    "os.system": pickle.dumps(_Calls(os.system, f"touch '{MARK}'")),
    "builtins.eval": pickle.dumps(_Calls(eval, f"open({MARK!r}, 'w')")),
    "builtins.exec": b"cbuiltins\nexec\n(S'open(\"" + MARK.encode() + b'", "w")\'\ntR.',
    "builtins.getattr": pickle.dumps(_Calls(getattr, _Calls(__import__, "os"), "system")),
    "builtins.open": pickle.dumps(_Calls(open, MARK, "w")),
    "a dotted name": _stack_global("os", "path.os.system", f"touch '{MARK}'"),
    "a dotted name in an allowed module": _stack_global("nvtabular.ops.categorify", "os.system", f"touch '{MARK}'"),
    "a module that NVTabular imports": _stack_global("nvtabular.ops.categorify", "os", "x"),
    "a function of NVTabular": _stack_global("nvtabular.ops.categorify", "_copy_storage", "x"),
    "a call of an operator": _stack_global("nvtabular.ops.clip", "Clip", "x"),
    "an old instruction": b"(S'" + MARK.encode() + b"'\nios\nmkdir\n.",
    "an import by cloudpickle": _stack_global("cloudpickle.cloudpickle", "subimport", "antigravity"),
    "an empty name": _stack_global("", "code", "x"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_pickle_that_would_run_code_is_refused(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    door.nvtabular()
    with pytest.raises(ConfigError):
        loads(data)
    assert list(tmp_path.iterdir()) == [], "nothing was run"


def test_a_hostile_folder_is_refused_by_name_and_nothing_runs(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "workflow.pkl").write_bytes(pickle.dumps(_Calls(os.system, f"touch '{tmp_path / MARK}'")))
    with (
        pytest.raises(ConfigError, match=r"the pickle asks for posix\.system"),
        pytest.warns(UserWarning, match="is not known"),
    ):
        load_workflow(folder, trust_pickle=True)
    assert not (tmp_path / MARK).exists()


def test_a_class_cannot_be_changed_by_a_pickle() -> None:
    door.nvtabular()
    clip = _stack_global("nvtabular.ops.clip", "Clip", "x").removesuffix(b"\x85R.").partition(b"\x93")[0] + b"\x93"
    state = b"}\x8c\x09transform\x8c\x01xs"
    with pytest.raises(ConfigError, match="a state for"):
        loads(clip + b"N" + state + b"\x86b.")


def test_functions_in_a_pickle_are_refused_with_the_operator(tmp_path: Path) -> None:
    ops = door.nvtabular().ops
    both = (["price"] >> ops.LambdaOp(lambda column: column * 2)) + (["age"] >> ops.Filter(lambda frame: frame))
    with door.quiet():
        workflow = door.nvtabular().Workflow(both)
        from tests.saved.workflow import rows

        workflow.fit(door.nvtabular().Dataset(rows()))
    workflow.save(str(tmp_path / "saved"))
    with pytest.raises(CompileError) as caught:
        load_workflow(tmp_path / "saved", trust_pickle=True)
    assert {problem.operator for problem in caught.value.problems} == {"LambdaOp", "Filter"}
    assert all("never run" in problem.reason for problem in caught.value.problems)


def test_a_truncated_pickle_is_refused(pickled: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pickled, tmp_path / "saved"))
    whole = (folder / "workflow.pkl").read_bytes()
    (folder / "workflow.pkl").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_workflow(folder, trust_pickle=True)


def test_reading_is_ended_when_it_takes_too_much_memory(pickled: Path) -> None:
    with pytest.raises(ConfigError):
        read_apart("pickle", pickled, None, print, memory=2**20)


def _diamonds(document: dict[str, Any]) -> None:
    """Let each of 60 nodes be reached in two ways from the one before it: 2**60 ways, which Merlin walks one by one."""
    first = node(document, "SelectionOp")
    document["nodes"] = [first | {"id": 0}]
    for number in range(1, 61):
        twice = {"id": number, "parent_ids": [number - 1] * 2, "op_params": {}}
        document["nodes"].append(first | twice | {"op_class": "merlin.dag.ops.concat_columns.ConcatColumns"})
    document["output_node_id"] = 60


def test_reading_is_ended_when_it_takes_too_long(saved: Path) -> None:
    with pytest.raises(ConfigError, match="SIGXCPU"):
        read_apart("graph", changed(saved, _diamonds), None, print, seconds=8)


def operators(ops: Any) -> list[Any]:
    """Operators that a pickle holds in other ways than the workflow above, whether or not a graph can hold them."""
    return [
        ["age"] >> ops.FillMedian(),
        ["first"] >> ops.HashBucket({"first": 5}),
        ["first"] >> ops.Categorify(num_buckets=3, max_size=10),
        [["first", "second"]] >> ops.Categorify(encode_type="combo"),
        [["first", "second"]] >> ops.HashedCross(7),
        ["age"] >> ops.DifferenceLag(partition_cols=["user"], shift=[1, -1]),
        ["user", "age"] >> ops.Groupby(groupby_cols=["user"], sort_cols=["age"], aggs={"age": ["list", "sum"]}),
        ["first", ["first", "second"]] >> ops.TargetEncoding(["price"], kfold=3, out_dtype="float32"),
        ["first"] >> ops.JoinGroupby(cont_cols=["price"], stats=["count", "mean"]),
        ["age"] >> ops.ReduceDtypeSize(),
        ["first"] >> ops.DropLowCardinality(),
        ["tags"] >> ops.ValueCount(),
        ["age"] >> ops.Dropna(),
    ]


def test_the_list_of_names_has_what_every_operator_is_made_of(tmp_path: Path) -> None:
    with door.quiet():
        found = operators(door.nvtabular().ops)
    for number, output in enumerate(found):
        with door.quiet():
            workflow = door.nvtabular().Workflow(output)
        workflow.save(str(tmp_path / str(number)))
        again = loads((tmp_path / str(number) / "workflow.pkl").read_bytes())
        assert type(again.output_node.op) is type(output.op)


# Folders


@pytest.mark.parametrize("kind", ["pickle", "graph"])
def test_statistics_that_are_missing_are_not_taken_for_empty(kind: str, pickled: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pickled if kind == "pickle" else SAVED, tmp_path / "saved"))
    next(folder.rglob("unique.user.parquet")).unlink()
    with pytest.raises(ConfigError, match=r"unique\.user\.parquet.*received none"):
        load_workflow(folder, trust_pickle=True)


@pytest.mark.parametrize("kind", ["pickle", "graph"])
def test_a_link_that_leads_outside_is_refused(kind: str, pickled: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pickled if kind == "pickle" else SAVED, tmp_path / "saved"))
    table = next(folder.rglob("unique.user.parquet"))
    table.rename(tmp_path / "elsewhere.parquet")
    table.symlink_to(tmp_path / "elsewhere.parquet")
    with pytest.raises(ConfigError, match="received one outside"):
        load_workflow(folder, trust_pickle=True)


def _path(path: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        node(document, "Categorify")["op_state"]["categories"][0]["path"] = path

    return change


def _function(document: dict[str, Any]) -> None:
    one = node(document, "LogOp")
    one["op_class"] = "nvtabular.ops.lambdaop.LambdaOp"
    one["op_params"] = {"f": {"module": "os", "qualname": "system"}, "dependency": []}


def _cycle(document: dict[str, Any]) -> None:
    node(document, "SelectionOp")["parent_ids"] = [document["output_node_id"]]


TAMPERED: dict[str, tuple[Change, str]] = {
    "a path above": (_path("../../../../../etc/passwd"), "one outside"),
    "an absolute path": (_path("/etc/passwd"), "expected a file in"),
    "a path that is a number": (_path(7), "expected str"),
    "another version": (lambda document: document.update(format_version=2), "expected format_version 1"),
    "a version that is a word": (lambda document: document.update(format_version="1"), "expected format_version 1"),
    "an unknown operator": (
        lambda document: node(document, "LogOp").update(op_class="os.system"),
        r"os\.system on age.*not known",
    ),
    "a function": (_function, "never imported"),
    "a cycle": (_cycle, "without cycles"),
    "no such parent": (lambda document: node(document, "LogOp").update(parent_ids=[999]), "received 999"),
    "no such output": (lambda document: document.update(output_node_id=999), "received 999"),
    "an id twice": (lambda document: document["nodes"][0].update(id=1), "node 1"),
    "an unknown argument": (lambda document: node(document, "Normalize")["op_params"].update(log=1), "received log"),
    "an argument of another type": (
        lambda document: node(document, "ListSlice")["op_params"].update(end="all"),
        "expected int or null",
    ),
    "a type that is none": (
        lambda document: node(document, "Normalize")["op_params"].update(out_dtype={"name": "O"}),
        "a type of numbers",
    ),
    "statistics that are missing": (lambda document: node(document, "Normalize")["op_state"].clear(), "means"),
    "statistics of another type": (
        lambda document: node(document, "Normalize")["op_state"].update(means={"age": "x"}),
        "received 'x'",
    ),
    "nodes that are none": (lambda document: document.update(nodes=[1, 2]), "expected dict"),
}


@pytest.mark.parametrize(("change", "message"), TAMPERED.values(), ids=TAMPERED.keys())
def test_a_tampered_graph_json_is_refused(change: Change, message: str, saved: Path) -> None:
    door.nvtabular()
    with pytest.raises(ConfigError, match=message):
        read_graph(changed(saved, change), None)


def test_files_that_are_no_workflow_are_refused(saved: Path, tmp_path: Path) -> None:
    whole = (saved / "graph.json").read_text(encoding="utf-8")
    for text in (whole[: len(whole) // 2], "[1]", "[" * 100_000, "{}", '{"format_version": null}'):
        (saved / "graph.json").write_text(text)
        with pytest.raises(ConfigError):
            load_workflow(saved)
    with (saved / "graph.json").open("r+b") as file:
        file.truncate(2**30)
    with pytest.raises(ConfigError, match="expected at most"):
        load_workflow(saved)
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "absent", __file__):
        with pytest.raises(ConfigError, match=r"a folder with graph\.json"):
            load_workflow(path)


def test_a_truncated_table_is_refused(saved: Path) -> None:
    table = next(saved.rglob("unique.user.parquet"))
    table.write_bytes(table.read_bytes()[:100])
    with pytest.raises(MewsError):
        load_workflow(saved)


def test_a_damaged_feature_graph_is_an_artifact_error(graph: FeatureGraph, tmp_path: Path) -> None:
    graph.save(tmp_path / "graph")
    next((tmp_path / "graph" / "state").iterdir()).unlink()
    with pytest.raises(ArtifactError):
        load_workflow(tmp_path / "graph")
