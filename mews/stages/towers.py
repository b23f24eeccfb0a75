"""The towers of a run's model apart, each from raw columns to its vector, and the vectors of all items."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from etl.atomic import atomic_folder
from etl.errors import ArtifactError, ConfigError
from etl.graph import FeatureGraph
from mews.config import PipelineConfig
from mews.run import Run
from mews.stages import lists
from mews.stages.serving import serving_graph

QUERY, ITEM, VECTORS = "query.onnx", "item.onnx", "item_vectors.parquet"
_WRITTEN = {QUERY, ITEM, VECTORS, f"{QUERY}.data", f"{ITEM}.data"}


def export_towers(run: Run, config: PipelineConfig, out: Path) -> dict[str, Any]:
    """Write the folder `out` as a whole: query.onnx, item.onnx, item_vectors.parquet.

    The graphs take the raw columns of their side, as a request has them (`export.requests`), and answer `vector`,
    float32 [batch, dim]; a user's and an item's dot product ranks as the model's score. The table has a row for each
    item of the training rows: the raw value, its `code`, and its `vector`. ConfigError when the model has no towers;
    ArtifactError, and nothing written, when `out` holds other files.
    """
    held = [path.name for path in out.iterdir()] if out.is_dir() else [out.name] if out.exists() else []
    if strange := sorted(set(held) - _WRITTEN):
        raise ArtifactError(f"the folder {out}", expected="none, an empty one, or one of towers", received=strange[0])
    from training.export.towers import towers_to_onnx, write_item_vectors

    with atomic_folder(out) as folder:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{out.name}.", suffix=".tmp") as apart:
            for file in towers_to_onnx(run.model, Path(apart)).values():
                _from_raw_columns(file, run, config, folder / file.name)
        items = write_item_vectors(run.model, run.features("train"), folder / VECTORS)
        table, raw = _with_raw_values(pl.read_parquet(folder / VECTORS), run)
        table.write_parquet(folder / VECTORS)
    dim = table.schema["vector"].shape[0]  # type: ignore[attr-defined]
    files = {name: str(out / name) for name in (QUERY, ITEM, VECTORS)}
    says = f"{out}: {QUERY}, {ITEM}, and the vectors of {items:,} items"
    return {"files": files, "items": items, "dim": dim, "item": raw, "says": says}


def _from_raw_columns(tower: Path, run: Run, config: PipelineConfig, target: Path) -> None:
    """Write the tower behind the part of the features' graph that it reads."""
    from ensemble.graphs.fuse import fuse
    from etl.compiler import to_onnx
    from etl.compiler.targets.onnx import feature_tensors
    from etl.onnx_files import open_graph, save_graph

    model, whole = open_graph(tower), FeatureGraph.load(run.graph)
    read = _read_inputs(model)
    graph = serving_graph(run)
    raw = graph.raw_columns_of(*read)
    own = graph.remove_inputs({column.name for column in graph.inputs} - set(raw))
    own = own.without({ref for ref in own.outputs if ref.column not in read})
    forms = {name: form for name, form in config.export.forms.items() if name in raw}
    features = to_onnx(own, whole, forms)
    tensors = feature_tensors(features)
    save_graph(fuse(features, model, {name: tensors[name] for name in read}), target)


def _read_inputs(model: Any) -> list[str]:
    """Leave in the graph only inputs that a node reads, and return them: mf is given all of a side, and reads ids."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [value for value in model.graph.input if value.name in read]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return [value.name for value in kept]


def _with_raw_values(table: pl.DataFrame, run: Run) -> tuple[pl.DataFrame, str | None]:
    """Put the raw value of each item before its code, and return what the column is called; None where codes are
    not those of a vocabulary. Codes of null and of unknown items have no raw value.
    """
    feature = table.columns[0]
    table = table.rename({feature: "code"})
    graph = FeatureGraph.load(run.graph)
    try:
        values = lists.raw_values(graph, feature)
    except ConfigError:
        return table, None
    (name,) = graph.raw_columns_of(feature)
    codes = table["code"].to_numpy()
    raw = pl.Series(name, values[codes]).set(pl.Series(codes < lists.FIRST), None)
    return table.insert_column(0, raw), name
