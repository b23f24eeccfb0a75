"""Merlin reads our schema files as it reads NVTabular's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from etl import schema
from etl.graph import Column, FeatureGraph, OpNode, Ref
from etl.reader import door, hydrate, read

RAW = [
    Column("user", "int64"),
    Column("item", "string"),
    Column("item2", "string"),
    Column("tags", "string", is_list=True),
    Column("seen", "string", is_list=True),
    Column("price", "float64"),
    Column("small", "int16"),
    Column("name", "string"),
    Column("label", "int8"),
]
ROWS = pl.DataFrame(
    {
        "user": [1, 2, 2],
        "item": ["a", "b", None],
        "item2": ["a", "c", "d"],
        "tags": [["x", "y"], ["x"], []],
        "seen": [["x", "y"], ["x"], []],
        "price": [1.0, 2.0, 3.0],
        "small": [1, 2, 3],
        "name": ["p", "q", "r"],
        "label": [0, 1, 0],
    },
    schema_overrides={"small": pl.Int16, "label": pl.Int8},
)
PROPERTIES = ("domain", "embedding_sizes", "num_buckets", "freq_threshold", "max_size", "value_count", "shop")


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import_folder = tmp_path_factory.mktemp("fit")
    nvt = door.nvtabular()
    import merlin.io

    ops = nvt.ops
    encoded = {"out_path": str(import_folder)}
    features = (
        (["user"] >> ops.Categorify(**encoded, freq_threshold=1) >> ops.TagAsUserID())
        + ([["item", "item2"]] >> ops.Categorify(**encoded, max_size=100))
        + (["tags"] >> ops.Categorify(**encoded, dtype="int32") >> ops.ListSlice(0, 3, pad=True))
        + (["seen"] >> ops.Categorify(**encoded) >> ops.ListSlice(-2) >> ops.Rename(postfix="_last"))
        + (["price"] >> ops.Normalize(out_dtype="float32") >> ops.AddMetadata(tags=["item"], properties={"shop": "a"}))
        + (["small", "name"] >> ops.AddMetadata(tags=["context"]))
        + (["label"] >> ops.AddMetadata(tags=["target", "binary_classification"]))
    )
    ROWS.write_parquet(import_folder / "rows.parquet")
    with door.quiet():
        return nvt.Workflow(features).fit(merlin.io.Dataset(str(import_folder / "rows.parquet"), engine="parquet"))


def as_read(folder: Path, kind: str) -> Any:
    from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

    if kind == "json":
        return TensorflowMetadata.from_json_file(folder / ".merlin").to_merlin_schema()
    return TensorflowMetadata.from_proto_text_file(folder).to_merlin_schema()


def described(merlin_schema: Any) -> dict[str, Any]:
    return {
        column.name: {
            "dtype": column.dtype.without_shape.name,
            "dims": column.shape.as_tuple,
            "lists": (column.is_list, column.is_ragged),
            "tags": {getattr(tag, "value", tag) for tag in column.tags},
            "properties": {key: column.properties[key] for key in PROPERTIES if key in column.properties},
        }
        for column in merlin_schema
    }


@pytest.mark.parametrize("kind", ["json", "pbtxt"])
def test_merlin_reads_what_it_would_read_of_nvtabulars_own(workflow: Any, kind: str, tmp_path: Path) -> None:
    from merlin.schema.io.tensorflow_metadata import TensorflowMetadata

    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for folder in (theirs, ours):
        (folder / ".merlin").mkdir(parents=True)
    written = TensorflowMetadata.from_merlin_schema(workflow.output_schema)
    written.to_json_file(str(theirs / ".merlin"))
    written.to_proto_text_file(str(theirs))
    schema.write(read(workflow, RAW), ours)
    expected = described(as_read(theirs, kind))
    assert described(as_read(ours, kind)) == expected
    assert list(expected) == ["user", "item", "item2", "tags", "seen_last", "price", "small", "name", "label"]


def test_it_says_what_nvtabulars_schema_says(workflow: Any, tmp_path: Path) -> None:
    schema.write(read(workflow, RAW), tmp_path)
    ours = described(as_read(tmp_path, "json"))
    for name, theirs in described(workflow.output_schema).items():
        # A tensorflow-metadata file has no type for strings: Merlin reads its own files as "unknown" there.
        assert ours[name] == ({**theirs, "dtype": "unknown"} if name == "name" else theirs)


def test_hydrated_workflow_has_the_same_schema(workflow: Any) -> None:
    ours, theirs = (described(made.output_schema) for made in (hydrate(read(workflow, RAW)), workflow))
    theirs["name"]["dtype"] = "str"  # NVTabular saw pandas' objects
    assert ours == theirs


def test_a_jointly_encoded_column_names_the_shared_domain(workflow: Any) -> None:
    features = {feature["name"]: feature for feature in schema.to_features(read(workflow, RAW))}
    assert features["item"]["intDomain"] == features["item2"]["intDomain"]
    assert features["item"]["intDomain"] == {"name": "item_item2", "max": "6", "isCategorical": True}


def test_bins_have_a_domain_and_names_are_escaped(tmp_path: Path) -> None:
    door.nvtabular()
    name = 'price "€"\n\\\t'
    node = OpNode(
        "bucketize_1",
        "Bucketize",
        (Ref("input", name),),
        (Column(name, "int32", tags=("categorical",)),),
        {"boundaries": [1.0, 2.0]},
    )
    schema.write(FeatureGraph((Column(name, "float64"),), (node,), (Ref("bucketize_1", name),)), tmp_path)
    for kind in ("json", "pbtxt"):
        column = as_read(tmp_path, kind)[name]
        assert (column.int_domain.min, column.int_domain.max, column.int_domain.name) == (0, 2, name)
        assert column.properties["embedding_sizes"] == {"cardinality": 3.0, "dimension": 16.0}
