"""Ensembles of Merlin Systems, exported and served by the real Triton, answer as their own objects do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http

import mews
from ensemble.manifest import load
from ensemble.requests.encode import encode
from ensemble.server.triton import TritonServer
from tests.dropin.conftest import NAMES, Merlin, quiet, raw_rows

ROWS = raw_rows(50, seed=7)
Arrays = dict[str, np.ndarray]


def forests(merlin: Merlin) -> dict[str, Any]:
    import lightgbm
    import xgboost
    from sklearn.ensemble import RandomForestClassifier

    values, labels = merlin.features.to_numpy(dtype=np.float32), merlin.labels
    return {
        "xgb_binary": xgboost.XGBClassifier(n_estimators=20, max_depth=4).fit(values, labels),
        "xgb_regression": xgboost.XGBRegressor(n_estimators=20).fit(values, values[:, 0] * 3 + labels),
        "lightgbm": lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(values, labels),
        "sklearn": RandomForestClassifier(15, max_depth=6, random_state=0).fit(values, labels),
    }


def dlrm(merlin: Merlin) -> Any:
    import merlin.models.tf as mm
    from merlin.schema import Tags

    schema = merlin.workflow.output_schema
    for name, tag in (("user", Tags.CATEGORICAL), ("item", Tags.CATEGORICAL), ("price", Tags.CONTINUOUS)):
        schema[name] = schema[name].with_tags([tag])
    model = mm.DLRMModel(
        schema,
        embedding_dim=8,
        bottom_block=mm.MLPBlock([8]),
        top_block=mm.MLPBlock([8]),
        prediction_tasks=mm.BinaryOutput("click"),
    )
    features = {name: merlin.features[[name]].to_numpy() for name in NAMES}
    model(features)
    return model


@pytest.fixture(scope="module")
def ensembles(merlin: Merlin) -> dict[str, Any]:
    ops, feats = merlin.ops, merlin.node
    with quiet():
        made = {
            name: feats >> ops["PredictForest"](model, merlin.workflow.output_schema)
            for name, model in forests(merlin).items()
        }
        made["mlp"] = feats >> ops["PredictTensorflow"](merlin.keras())
        made["dlrm"] = feats >> ops["PredictTensorflow"](dlrm(merlin))
        made["two"] = made["mlp"] + made["xgb_binary"]
        tower = feats >> ops["PredictTensorflow"](merlin.keras("vector", width=6))
        made["tower"] = (tower + feats) >> ops["PredictTensorflow"](merlin.keras("rank", {"vector": 6}))
        return {name: merlin.ensemble(node) for name, node in made.items()}


@pytest.fixture(scope="module")
def served(ensembles: dict[str, Any], merlin: Merlin, tmp_path_factory: pytest.TempPathFactory) -> Any:
    repository = tmp_path_factory.mktemp("served") / "models"
    examples = merlin.rows.head(300)
    for name, ensemble in ensembles.items():
        with quiet():
            mews.export(ensemble, repository, name=name, examples=examples)
    with quiet():
        mews.export(ensembles["tower"], repository, name="tower_fused", shape="fused", examples=examples)
        mews.export(merlin.workflow, repository, forests(merlin)["sklearn"], name="pair", examples=examples)
    with TritonServer(repository, models=[*ensembles, "tower_fused", "pair"]) as server:
        yield server


def infer(client: Any, module: Any, name: str, folder: Path) -> Arrays:
    """What an ordinary Triton client gets."""
    schema = load(folder).request
    tensors, inputs = encode(ROWS, schema), []
    for spec in schema.tensors:
        inputs.append(module.InferInput(spec.name, tensors[spec.name].shape, spec.dtype))
        inputs[-1].set_data_from_numpy(tensors[spec.name])
    result = client.infer(name, inputs)
    response = result.get_response()
    outputs = response["outputs"] if isinstance(response, dict) else response.outputs
    names = [each["name"] if isinstance(each, dict) else each.name for each in outputs]
    return {output: result.as_numpy(output) for output in names}


def both(server: TritonServer, name: str, repository: Path) -> Arrays:
    """The answer, after a check that HTTP and gRPC give the same."""
    folder = repository / name / "1"
    with http.InferenceServerClient(server.http_url) as client:
        over_http = infer(client, http, name, folder)
    with grpc.InferenceServerClient(server.grpc_url) as client:
        over_grpc = infer(client, grpc, name, folder)
    assert over_http.keys() == over_grpc.keys()
    for output, values in over_http.items():
        np.testing.assert_array_equal(values, over_grpc[output])
    return over_http


def transformed(merlin: Merlin) -> np.ndarray:
    with quiet():
        return merlin.workflow.transform(ROWS.to_pandas())[list(NAMES)].to_numpy(dtype=np.float32)


def own_forest(ensemble: Any, merlin: Merlin) -> Arrays:
    """Merlin's operator on NVTabular's features; ensemble.transform itself fails on forests behind a workflow."""
    return {"output__0": ensemble.graph.output_node.op.fil_op.predict(transformed(merlin)).astype(np.float32)}


def own_transform(ensemble: Any, merlin: Merlin) -> Arrays:
    """What Merlin Systems says in this process."""
    with quiet():
        found = ensemble.transform(ROWS.to_pandas())
    return {name: np.array(found[name].tolist()) for name in found.columns}


@functools.cache
def own_of(name: str) -> Callable[[Any, Merlin], Arrays]:
    return own_transform if name in ("mlp", "dlrm", "tower") else own_forest


@pytest.mark.parametrize("name", ["mlp", "dlrm", "tower", "xgb_binary", "xgb_regression", "lightgbm", "sklearn"])
def test_the_server_answers_as_merlin_does(
    name: str, served: TritonServer, ensembles: dict[str, Any], merlin: Merlin
) -> None:
    found, wanted = both(served, name, served.repository), own_of(name)(ensembles[name], merlin)
    assert found.keys() == wanted.keys()
    for output, values in wanted.items():
        np.testing.assert_allclose(found[output].reshape(values.shape), values, rtol=1e-5, atol=1e-5)
        assert len(np.unique(values)) > 1, "rows that all answer alike show nothing"


def test_two_models_side_by_side_answer_both(served: TritonServer, ensembles: dict[str, Any], merlin: Merlin) -> None:
    found = both(served, "two", served.repository)
    assert found.keys() == {"click", "output__0"}
    np.testing.assert_allclose(found["click"], own_transform(ensembles["mlp"], merlin)["click"], rtol=0, atol=1e-5)
    forest = own_forest(ensembles["xgb_binary"], merlin)["output__0"]
    np.testing.assert_allclose(found["output__0"][:, 0], forest, rtol=0, atol=1e-5)


def test_fused_answers_as_chained(served: TritonServer) -> None:
    chained, fused = (both(served, name, served.repository) for name in ("tower", "tower_fused"))
    assert chained.keys() == fused.keys() == {"rank"}
    np.testing.assert_allclose(fused["rank"], chained["rank"], rtol=0, atol=1e-6)


def test_a_workflow_and_a_forest_need_no_merlin_systems(served: TritonServer, merlin: Merlin) -> None:
    found = both(served, "pair", served.repository)
    shares = forests(merlin)["sklearn"].predict_proba(transformed(merlin))[:, 1]
    assert found.keys() == {"score"}
    np.testing.assert_allclose(found["score"][:, 0], shares, rtol=0, atol=1e-5)


def test_nothing_pickled_is_written(served: TritonServer) -> None:
    files = [path for path in served.repository.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".onnx", ".pbtxt", ".json", ".raw", ".lock", ""}
    for path in files:
        assert not path.read_bytes().startswith(b"\x80"), path
        assert b"cloudpickle" not in path.read_bytes(), path
