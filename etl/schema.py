"""Merlin's schema files, written without Merlin: what training reads beside the Parquet parts.

`.merlin/schema.json` and `schema.pbtxt` hold one tensorflow-metadata Schema: per feature its type, integer domain, list
lengths, tags and a Struct of properties (as merlin.schema.io.tensorflow_metadata writes them). What differs from
NVTabular's own: no `cat_path` (the vocabularies are in the graph); Bucketize gets a domain (Merlin Models needs one).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.dtypes import dtype, is_float, is_integer
from etl.graph import FeatureGraph, OpNode, Ref
from etl.operators.categorical import vocabulary_of

_STRUCT = "type.googleapis.com/google.protobuf.Struct"
_DESCRIBED_ELSEWHERE = ("domain", "value_count")


def write(graph: FeatureGraph, folder: Path) -> None:
    """Write `.merlin/schema.json` and `schema.pbtxt` for the outputs of a fitted `graph` into `folder`."""
    features = to_features(graph)
    (folder / ".merlin").mkdir(exist_ok=True)
    (folder / ".merlin" / "schema.json").write_text(to_json(features), encoding="utf-8")
    (folder / "schema.pbtxt").write_text(to_text(features), encoding="utf-8")


def to_features(graph: FeatureGraph) -> list[dict[str, Any]]:
    """Return one tensorflow-metadata Feature (its proto3 JSON form) per output column, in order."""
    return [_feature(graph, ref) for ref in graph.outputs]


def to_json(features: list[dict[str, Any]]) -> str:
    """Return the features as Merlin's schema.json."""
    return json.dumps({"feature": features}, ensure_ascii=False)


def to_text(features: list[dict[str, Any]]) -> str:
    """Return the features as a protobuf text file, the properties spelled out as a Struct."""
    return "".join(_text_message("feature", _text_feature(feature), 0) for feature in features)


def embedding_dimension(cardinality: int) -> int:
    """Return NVTabular's suggestion for an embedding of so many codes: 16 to 512 floats."""
    return int(min(max(16, round(1.6 * cardinality**0.56)), 512))


def properties(graph: FeatureGraph, ref: Ref) -> dict[str, Any]:
    """Return what NVTabular's schema says of one column: every operator above it adds or replaces."""
    nodes, above = {node.id: node for node in graph.nodes}, []
    while ref.node in nodes:
        above.append(ref)
        ref = nodes[ref.node].sources(ref.column)[0]
    found: dict[str, Any] = {}
    for each in reversed(above):
        found = _with_properties(nodes[each.node], each, found, graph.columns[each].cardinality)
    return found


def _with_properties(node: OpNode, ref: Ref, found: Mapping[str, Any], cardinality: int | None) -> dict[str, Any]:
    """Return the properties of a column: those of the column it is made from, and what `node` says."""
    if node.op == "Categorify":
        return {**found, **_categorify(node, ref.column), **_codes(vocabulary_of(node, ref.column), cardinality)}
    if node.op == "Bucketize":
        return {**found, **_codes(ref.column, cardinality)}
    if node.op == "ListSlice":
        return {**found, "value_count": _lengths(node)}
    if node.op in ("AddMetadata", "LambdaOp"):
        return {**found, **node.params.get("properties", {})}
    if node.op == "ValueCount":
        return {**found, **_seen_lengths(node, ref.column)}
    if node.op == "DataStats":
        return {**found, "stats": _statistics(node, ref.column)}
    return dict(found)


def _categorify(node: OpNode, column: str) -> dict[str, Any]:
    found = {}
    for name in ("num_buckets", "freq_threshold", "max_size"):
        value = node.params.get(name)
        found[name] = value.get(column) if isinstance(value, Mapping) else value
    return found


def _codes(domain: str, cardinality: int | None) -> dict[str, Any]:
    if cardinality is None:
        return {}
    return {
        "domain": {"name": domain, "min": 0, "max": cardinality - 1},
        "embedding_sizes": {"cardinality": cardinality, "dimension": embedding_dimension(cardinality)},
    }


def _seen_lengths(node: OpNode, column: str) -> dict[str, Any]:
    """Return the lengths of a list in the data it was fitted on; nothing for a scalar, or before fit."""
    rows = _state(node, "lengths", column)
    return {"value_count": {"min": rows["min"], "max": rows["max"]}} if rows.get("max") is not None else {}


def _statistics(node: OpNode, column: str) -> dict[str, Any]:
    """Return what DataStats found; what is not known, or not finite, has no JSON form and is left out."""
    found = _state(node, "stats", column)
    return {key: value for key, value in found.items() if value is not None and math.isfinite(value)}


def _state(node: OpNode, key: str, column: str) -> dict[str, Any]:
    """Return the row of `column` in a state table, without its name; nothing before fit."""
    table = (node.state or {}).get(key)
    rows = [] if table is None else table.filter(table["column"] == column).to_dicts()
    return {name: value for name, value in rows[0].items() if name != "column"} if rows else {}


def _lengths(node: OpNode) -> dict[str, int | None]:
    start, end = node.params["start"], node.params.get("end")
    if start > 0 and end is None:
        start, end = 0, start
    to_the_end = end is None if start >= 0 else end is None or end > 0
    longest = (None if start >= 0 else -start) if to_the_end else end - start
    return {"min": longest if node.params.get("pad") and longest else 0, "max": longest}


def _feature(graph: FeatureGraph, ref: Ref) -> dict[str, Any]:
    column = graph.columns[ref]
    known = properties(graph, ref)
    feature: dict[str, Any] = {"name": column.name}
    lengths = known.get("value_count") or (
        {"min": column.length or 0, "max": column.length} if column.is_list else None
    )
    lengths = lengths and {key: lengths.get(key) for key in ("min", "max")}
    if lengths:
        # proto3 leaves a zero out; Merlin reads what is left out as 0 and as no upper bound.
        feature["valueCount"] = {key: str(value) for key, value in lengths.items() if value}
    domain = known.get("domain")
    if is_integer(column.dtype):
        feature["type"] = "INT"
        if domain:
            feature["intDomain"] = _int_domain(domain, "categorical" in column.tags)
    elif is_float(column.dtype):
        feature["type"] = "FLOAT"
        if domain:
            feature["floatDomain"] = {key: value for key, value in domain.items() if value}
    extra = {key: value for key, value in known.items() if key not in _DESCRIBED_ELSEWHERE}
    feature["annotation"] = {"tag": list(column.tags), "extraMetadata": [{**extra, **_shape(column.dtype, lengths)}]}
    return feature


def _int_domain(domain: Mapping[str, Any], categorical: bool) -> dict[str, Any]:
    found: dict[str, Any] = {key: str(int(domain[key])) for key in ("min", "max") if domain.get(key)}
    if domain.get("name"):
        found = {"name": domain["name"], **found}
    return {**found, "isCategorical": True} if categorical else found


def _shape(name: str, lengths: Mapping[str, int | None] | None) -> dict[str, Any]:
    """Return dims (the batch is (0, unlimited)), list flags and the bits of one value."""
    dims: list[Any] = [[0, None]]
    fixed = lengths is not None and lengths["min"] == lengths["max"]
    if lengths is not None:
        dims.append(lengths["max"] if fixed else [lengths["min"] or 0, lengths["max"]])
    found = {"_dims": dims, "is_list": lengths is not None, "is_ragged": lengths is not None and not fixed}
    bits = "".join(digit for digit in dtype(name).numpy if digit.isdigit())
    return {**found, "dtype_item_size": int(bits)} if is_integer(name) or is_float(name) else found


def _text_feature(feature: Mapping[str, Any]) -> str:
    lines = [f"  name: {_quoted(feature['name'])}\n"]
    if "valueCount" in feature:
        lines.append(_text_message("value_count", _text_numbers(feature["valueCount"], 4), 2))
    if "type" in feature:
        lines.append(f"  type: {feature['type']}\n")
    for key, name in (("intDomain", "int_domain"), ("floatDomain", "float_domain")):
        if key in feature:
            lines.append(_text_message(name, _text_numbers(feature[key], 4), 2))
    tags = "".join(f"    tag: {_quoted(tag)}\n" for tag in feature["annotation"]["tag"])
    fields = _text_fields(feature["annotation"]["extraMetadata"][0], 8)
    struct = _text_message("extra_metadata", _text_message(f"[{_STRUCT}]", fields, 6), 4)
    return "".join(lines) + _text_message("annotation", tags + struct, 2)


def _text_message(name: str, body: str, indent: int) -> str:
    return f"{' ' * indent}{name} {{\n{body}{' ' * indent}}}\n"


def _text_numbers(values: Mapping[str, Any], indent: int) -> str:
    names = {"isCategorical": "is_categorical"}
    return "".join(
        f"{' ' * indent}{names.get(key, key)}: {_quoted(value) if key == 'name' else str(value).lower()}\n"
        for key, value in values.items()
    )


def _text_fields(values: Mapping[str, Any], indent: int) -> str:
    pad = " " * (indent + 2)
    return "".join(
        _text_message("fields", f"{pad}key: {_quoted(key)}\n" + _text_value("value", value, indent + 2), indent)
        for key, value in values.items()
    )


def _text_value(name: str, value: Any, indent: int) -> str:
    """Return one google.protobuf.Value called `name` in text form."""
    pad = " " * (indent + 2)
    if value is None:
        body = f"{pad}null_value: NULL_VALUE\n"
    elif isinstance(value, bool):
        body = f"{pad}bool_value: {str(value).lower()}\n"
    elif isinstance(value, int | float):
        body = f"{pad}number_value: {value}\n"
    elif isinstance(value, Mapping):
        body = _text_message("struct_value", _text_fields(value, indent + 4), indent + 2)
    elif isinstance(value, list | tuple):
        body = _text_message("list_value", "".join(_text_value("values", v, indent + 4) for v in value), indent + 2)
    else:
        body = f"{pad}string_value: {_quoted(str(value))}\n"
    return _text_message(name, body, indent)


def _quoted(text: str) -> str:
    """Return a string of protobuf's text format: control characters, quotes and backslashes as octal escapes."""
    return '"' + "".join(f"\\{ord(c):03o}" if c < " " or c in '"\\' else c for c in text) + '"'
