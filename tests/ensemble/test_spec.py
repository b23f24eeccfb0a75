import pytest

import ensemble
from ensemble.spec import RequestColumn, RequestSchema, TensorSpec
from etl.errors import ArtifactError, SchemaError
from etl.graph import Column


def test_public_names_are_there_and_no_others():
    assert all(getattr(ensemble, name) is not None for name in ensemble.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = ensemble.Clint


@pytest.mark.parametrize(
    ("column", "tensors"),
    [
        (RequestColumn("price", "float32"), [TensorSpec("price", "FP32", (1,))]),
        (RequestColumn("when", "datetime"), [TensorSpec("when", "INT64", (1,))]),
        (
            RequestColumn("tags", "string", is_list=True),
            [TensorSpec("tags", "BYTES", (-1,)), TensorSpec("tags__length", "INT32", (1,))],
        ),
        (RequestColumn("vector", "float32", is_list=True, length=8), [TensorSpec("vector", "FP32", (8,))]),
    ],
)
def test_a_column_travels_as_these_tensors(column, tensors):
    assert list(column.tensors) == tensors


def test_columns_can_be_null_where_their_type_has_an_encoding_for_it():
    assert RequestColumn("a", "int8").nullable
    assert not RequestColumn("a", "uint8").nullable
    with pytest.raises(ArtifactError, match=r"nullable.*received bool"):
        RequestColumn("a", "bool", nullable=True)


def test_an_unknown_type_is_refused_with_the_known_ones():
    with pytest.raises(SchemaError, match="expected one of bool, int8"):
        RequestColumn("a", "complex")


def test_schema_of_a_graph_survives_json():
    columns = [Column("user", "int64", tags=("user_id",)), Column("tags", "string", is_list=True)]
    schema = RequestSchema.from_columns(columns)
    assert schema.names == ("user", "tags")
    assert [spec.name for spec in schema.tensors] == ["user", "tags", "tags__length"]
    assert RequestSchema.from_json(schema.to_json()) == schema
