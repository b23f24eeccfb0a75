from dataclasses import fields, replace

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from ensemble.execution import (
    Accelerator,
    Batching,
    Cuda,
    GraphBound,
    GraphSpec,
    InstanceGroup,
    Latest,
    Optimization,
    QueuePolicy,
    RateLimiter,
    Resource,
    Shape,
)
from ensemble.pbtxt import parse, render
from ensemble.spec import ModelSpec, Step, TensorSpec, Warmup, WarmupTensor
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
    "batching": [
        Batching(),
        Batching((4, 8)),
        Batching((), 500),
        Batching((16,), 1),
        Batching(preserve_ordering=True),
        Batching(priority_levels=3, default_priority=2),
        Batching(queue=QueuePolicy()),
        Batching(queue=QueuePolicy("DELAY", 1500, True, 64)),
        Batching(
            priority_levels=2,
            default_priority=2,
            priority_queues={1: QueuePolicy(max_size=7), 2: QueuePolicy("REJECT", 2**40)},
        ),
    ],
    "instances": [
        (InstanceGroup(2, "KIND_CPU"),),
        (InstanceGroup(1, "KIND_AUTO"), InstanceGroup(3, "KIND_GPU", (0, 1)), InstanceGroup(1, "KIND_MODEL")),
        (InstanceGroup(name="a", host_policy="numa0"), InstanceGroup(profile=("0", "small"), passive=True)),
        (InstanceGroup(rate_limiter=RateLimiter()),),
        (InstanceGroup(rate_limiter=RateLimiter((Resource("memory", 4), Resource("bus", 1, shared=True)), 2)),),
    ],
    "warmup": [
        (
            Warmup("real", (WarmupTensor("x", "INT64", (1,), "row0.raw"),)),
            Warmup("two", (WarmupTensor("a", "FP32", (3,), "random"), WarmupTensor("b", "BYTES", (1,), "zero")), 8, 2),
        )
    ],
    "versions": [(3,), (1, 2), Latest(2), Latest(), "all"],
    "parameters": [{"mews.fingerprint": "abc", "intra_op_thread_count": "2"}],
    "optimization": [
        Optimization(),
        *(Optimization(graph_level=level) for level in (-1, 0, 1, 2)),
        Optimization(priority="PRIORITY_MAX"),
        Optimization(cuda=Cuda()),
        Optimization(cuda=Cuda(True, True, (GraphSpec(8), GraphSpec(4)), True)),
        Optimization(cuda=Cuda(graph_specs=(GraphSpec(8, {"x": Shape((3, 2))}, GraphBound(1, {"x": Shape((1, 2))})),))),
        Optimization(
            gpu_accelerators=(
                Accelerator("tensorrt", {"precision_mode": "FP16", "max_workspace_size_bytes": "1073741824"}),
                Accelerator("cuda", {"use_tf32": "0"}),
            )
        ),
        Optimization(cpu_accelerators=(Accelerator("openvino"),)),
        Optimization(input_pinned=True, output_pinned=False),
        Optimization(gather_threshold=4096),
        Optimization(eager_batching=True),
    ],
    "response_cache": [True, False],
    "model_file": ["model.ort"],
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
        ({"batching": Batching(priority_levels=2)}, "default priority is 0, of 1 to 2"),
        ({"batching": Batching(priority_queues={1: QueuePolicy()})}, r"priorities \[1\], of 1 to 0"),
        ({"instances": (InstanceGroup(0),)}, "0 instances"),
        ({"instances": (InstanceGroup(1, "KIND_CPU", (0,)),)}, "KIND_CPU cannot name GPUs"),
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
        ('name: "a" model_transaction_policy { decoupled: true }', "model_transaction_policy"),
        ('name: "a" instance_group { count: 1 secondary_devices { device_id: 1 } }', "instance_group"),
    ],
)
def test_settings_that_a_spec_cannot_hold_are_refused_not_dropped(text, field):
    with pytest.raises(ArtifactError, match=f"received {field}"):
        parse(text)


def test_what_is_no_config_is_refused_with_its_line():
    with pytest.raises(ArtifactError, match=r"cannot be read.*2:1"):
        parse('name: "a"\nnonsense: 3')


_names = st.text("abcdefgh_", min_size=1, max_size=8)
_counts = st.integers(0, 2**31 - 1)
_texts = st.dictionaries(_names, st.text(max_size=8), max_size=3)
_dims = st.lists(st.integers(-1, 99)).map(tuple)
_tensors = st.builds(TensorSpec, _names, st.sampled_from(TYPES), _dims, st.booleans())
_outputs = st.builds(TensorSpec, _names, st.sampled_from(TYPES), _dims)
_policies = st.builds(QueuePolicy, st.sampled_from(["REJECT", "DELAY"]), st.integers(0, 2**63), st.booleans(), _counts)
_shapes = st.dictionaries(_names, st.builds(Shape, st.lists(st.integers(1, 99), max_size=3).map(tuple)), max_size=2)
_accelerators = st.lists(st.builds(Accelerator, _names, _texts), max_size=2).map(tuple)
_limiters = st.builds(
    RateLimiter, st.lists(st.builds(Resource, _names, _counts, st.booleans()), max_size=2).map(tuple), _counts
)


@st.composite
def _batchings(draw, limit):
    levels = draw(st.integers(0, 3))
    return Batching(
        preferred=tuple(draw(st.lists(st.integers(1, limit), max_size=3))),
        delay_us=draw(st.integers(0, 2**63)),
        preserve_ordering=draw(st.booleans()),
        priority_levels=levels,
        default_priority=draw(st.integers(1, levels)) if levels else 0,
        queue=draw(st.none() | _policies),
        priority_queues=draw(st.dictionaries(st.integers(1, levels), _policies)) if levels else {},
    )


@st.composite
def _instances(draw):
    kind = draw(st.sampled_from(["KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL"]))
    gpus = tuple(draw(st.lists(st.integers(0, 7), max_size=2))) if kind in ("KIND_AUTO", "KIND_GPU") else ()
    profile = tuple(draw(st.lists(_names, max_size=2)))
    limiter = draw(st.none() | _limiters)
    return InstanceGroup(
        draw(st.integers(1, 64)), kind, gpus, draw(_names), limiter, draw(_names), profile, draw(st.booleans())
    )


_cuda = st.builds(
    Cuda,
    st.booleans(),
    st.booleans(),
    st.lists(
        st.builds(GraphSpec, _counts, _shapes, st.none() | st.builds(GraphBound, _counts, _shapes)), max_size=2
    ).map(tuple),
    st.booleans(),
)
_optimizations = st.builds(
    Optimization,
    st.none() | st.integers(-1, 2),
    st.sampled_from(["PRIORITY_DEFAULT", "PRIORITY_MAX", "PRIORITY_MIN"]),
    st.none() | _cuda,
    _accelerators,
    _accelerators,
    st.none() | st.booleans(),
    st.none() | st.booleans(),
    _counts,
    st.booleans(),
)


_samples = st.builds(
    Warmup,
    _names,
    st.lists(st.builds(WarmupTensor, _names, st.sampled_from(TYPES), _dims, st.just("zero") | _names), max_size=2).map(
        lambda tensors: tuple(sorted({tensor.name: tensor for tensor in tensors}.values(), key=lambda each: each.name))
    ),
    _counts,
    _counts,
)
_maps = st.dictionaries(_names, _names, min_size=1, max_size=3)
_ensembles = st.builds(
    ModelSpec,
    _names,
    st.lists(_tensors, max_size=3).map(tuple),
    st.lists(_outputs, max_size=3).map(tuple),
    platform=st.just("ensemble"),
    max_batch_size=st.integers(0, 512),
    versions=st.lists(st.integers(1, 99)).map(tuple),
    parameters=_texts,
    steps=st.lists(st.builds(Step, _names, _maps, _maps, st.integers(-1, 99)), min_size=1, max_size=3).map(tuple),
    response_cache=st.none() | st.booleans(),
)


@st.composite
def _models(draw):
    """Any model that is no ensemble and does not contradict itself."""
    limit = draw(st.integers(0, 512))
    return ModelSpec(
        name=draw(_names),
        inputs=tuple(draw(st.lists(_tensors, max_size=3))),
        outputs=tuple(draw(st.lists(_outputs, max_size=3))),
        backend=draw(_names),
        max_batch_size=limit,
        batching=draw(st.none() | _batchings(limit)) if limit else None,
        instances=tuple(draw(st.lists(_instances(), max_size=2))),
        warmup=tuple(draw(st.lists(_samples, max_size=2))),
        versions=draw(st.lists(st.integers(1, 99)).map(tuple) | st.builds(Latest, _counts) | st.just("all")),
        parameters=draw(_texts),
        optimization=draw(st.none() | _optimizations),
        response_cache=draw(st.none() | st.booleans()),
        model_file=draw(_names),
    )


@given(_models() | _ensembles)
@settings(max_examples=200, deadline=None)
def test_any_model_comes_back_as_it_was(spec):
    assert parse(render(spec)) == spec
