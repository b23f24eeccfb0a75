from dataclasses import fields, replace

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from ensemble.pbtxt import parse, render
from ensemble.spec import Batching, InstanceGroup, ModelSpec, Step, TensorSpec, Warmup, WarmupTensor
from etl.errors import ArtifactError

PLAIN = ModelSpec(
    "shop", (TensorSpec("x", "INT64"),), (TensorSpec("y", "FP32"),), backend="onnxruntime", max_batch_size=64
)
TYPES = [
    "BOOL",
    "BYTES",
    "FP16",
    "FP32",
    "FP64",
    *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
]

CHANGES = {
    "name": ["other"],
    "inputs": [
        tuple(TensorSpec(f"in_{kind}", kind, (1,)) for kind in TYPES),
        (
            TensorSpec("tags", "BYTES", (-1,)),
            TensorSpec("tags__length", "INT32", (1,)),
            TensorSpec("v", "FP32", (2, 3)),
        ),
    ],
    "outputs": [(TensorSpec("a", "INT32", (4,)), TensorSpec("b", "BYTES", (-1, 2)))],
    "backend": ["python"],
    "platform": ["onnxruntime_onnx"],
    "max_batch_size": [0, 1],
    "batching": [Batching(), Batching((4, 8)), Batching((), 500), Batching((16,), 1)],
    "instances": [
        (InstanceGroup(2, "KIND_CPU"),),
        (InstanceGroup(1, "KIND_AUTO"), InstanceGroup(3, "KIND_GPU", (0, 1)), InstanceGroup(1, "KIND_MODEL")),
    ],
    "warmup": [
        (
            Warmup("real", (WarmupTensor("x", "INT64", (1,), "row0.raw"),)),
            Warmup("two", (WarmupTensor("a", "FP32", (3,), "random"), WarmupTensor("b", "BYTES", (1,), "zero")), 8, 2),
        )
    ],
    "versions": [(3,), (1, 2)],
    "parameters": [{"mews.fingerprint": "abc", "intra_op_thread_count": "2"}],
}
ENSEMBLE = ModelSpec(
    "shop",
    (TensorSpec("x", "INT64"),),
    (TensorSpec("score", "FP32"),),
    platform="ensemble",
    max_batch_size=64,
    steps=(
        Step("shop_features_3", {"x": "x"}, {"f": "features/f", "g": "features/g"}),
        Step("shop_model_3", {"f": "features/f", "g": "features/g"}, {"score": "score"}, version=1),
    ),
)


def test_every_field_has_a_round_trip():
    assert {field.name for field in fields(ModelSpec)} == {*CHANGES, "steps"}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in CHANGES.items() for value in values])
def test_a_field_comes_back_as_it_was_and_changes_the_text(field, value):
    spec = replace(PLAIN, **{field: value})
    assert parse(render(spec)) == spec
    assert render(spec) != render(PLAIN)


def test_an_ensemble_comes_back_as_it_was():
    assert parse(render(ENSEMBLE)) == ENSEMBLE


def test_the_text_says_what_triton_documents():
    config = text_format.Parse(render(replace(PLAIN, batching=Batching((8,), 100))), model_config_pb2.ModelConfig())
    assert config.backend == "onnxruntime"
    assert config.input[0].data_type == model_config_pb2.TYPE_INT64
    assert list(config.dynamic_batching.preferred_batch_size) == [8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"platform": "ensemble"}, "steps go together"),
        ({"max_batch_size": 0, "batching": Batching()}, "needs max_batch_size"),
        ({"batching": Batching((65,))}, "larger than max_batch_size 64"),
        ({"inputs": (TensorSpec("x", "TEXT"),)}, "unknown type 'TEXT' of x"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ArtifactError, match=message):
        render(replace(PLAIN, **changes))


def test_an_ensemble_with_instances_is_refused():
    with pytest.raises(ArtifactError, match="composing models have"):
        render(replace(ENSEMBLE, instances=(InstanceGroup(),)))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('name: "a" sequence_batching { max_sequence_idle_microseconds: 5 }', "sequence_batching"),
        ('name: "a" input { name: "x" data_type: TYPE_INT8 dims: 1 is_shape_tensor: true }', "input"),
        ('name: "a" version_policy { latest { num_versions: 2 } }', "version_policy"),
    ],
)
def test_settings_that_a_spec_cannot_hold_are_refused_not_dropped(text, field):
    with pytest.raises(ArtifactError, match=f"received {field}"):
        parse(text)


def test_what_is_no_config_is_refused_with_its_line():
    with pytest.raises(ArtifactError, match=r"cannot be read.*2:1"):
        parse('name: "a"\nnonsense: 3')
