"""Tables and matrices in a pickle (JoinExternal's, ColumnSimilarity's): kept as parts, then put together from arrays.

Nothing of pandas, Dask or SciPy runs while the pickle is read. Afterwards only plain arrays are taken, and checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from etl.errors import ConfigError
from etl.reader import door
from etl.reader.saved.folder import LIVE

_HINT = f"Tables of numbers, text and bools are read, given as a data frame that is in the pickle. {LIVE}"
_PLAIN = (str, bool, int, float, type(None))
_NUMBERS = "biuf"


class Parts:
    """What a pickle would make or call under a name that is known: its arguments and its state, and nothing run."""

    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments


class Table(Parts):
    """pandas.DataFrame."""


class Manager(Parts):
    """pandas' BlockManager: blocks, and the two axes."""


class Block(Parts):
    """pandas' block: values, their places among the columns, and 2."""


class Index(Parts):
    """pandas' index: its class, and its arguments by name."""


class IndexKind(Parts):
    """A class of indices."""


class ObjectArray(Parts):
    """An array of objects: its state has the shape and the values."""


class ArrayKind(Parts):
    """numpy.ndarray."""


class Data(Parts):
    """merlin.io.Dataset."""


class Engine(Parts):
    """Merlin's engine of a Dataset that was given a data frame."""


class Lazy(Parts):
    """dask.dataframe.DataFrame: its state has the graph first."""


class Graph(Parts):
    """Dask's HighLevelGraph."""


class Layer(Parts):
    """Dask's MaterializedLayer."""


class Rows(Parts):
    """scipy.sparse.csr_matrix."""


class Triples(Parts):
    """scipy.sparse.coo_matrix."""


NAMES: dict[tuple[str, str], type[Parts]] = {
    ("pandas.core.frame", "DataFrame"): Table,
    ("pandas.core.internals.managers", "BlockManager"): Manager,
    ("pandas._libs.internals", "_unpickle_block"): Block,
    ("pandas.core.indexes.base", "_new_Index"): Index,
    ("pandas.core.indexes.base", "Index"): IndexKind,
    ("pandas.core.indexes.range", "RangeIndex"): IndexKind,
    ("numpy.core.multiarray", "_reconstruct"): ObjectArray,
    ("numpy._core.multiarray", "_reconstruct"): ObjectArray,
    ("numpy", "ndarray"): ArrayKind,
    ("merlin.io.dataset", "Dataset"): Data,
    ("merlin.io.dataframe_engine", "DataFrameDatasetEngine"): Engine,
    ("dask.dataframe.core", "DataFrame"): Lazy,
    ("dask.highlevelgraph", "HighLevelGraph"): Graph,
    ("dask.highlevelgraph", "MaterializedLayer"): Layer,
    ("scipy.sparse._csr", "csr_matrix"): Rows,
    ("scipy.sparse.csr", "csr_matrix"): Rows,
    ("scipy.sparse._coo", "coo_matrix"): Triples,
    ("scipy.sparse.coo", "coo_matrix"): Triples,
}
"""By the names that pickles have for them; what is only ever called is made as if it were an object."""


def join(op: Any) -> None:
    """Give a JoinExternal its table; ConfigError for one that is not whole in the pickle or has other columns."""
    from nvtabular import Dataset

    table = _as("JoinExternal", _table, op.df_ext)
    with door.quiet():
        op.df_ext = Dataset(table, cpu=True)
    op.cpu = True
    if op._ext_cache is not None:
        op._ext_cache = _as("JoinExternal", _frame, op._ext_cache)


def matrices(op: Any) -> None:
    """Give a ColumnSimilarity its matrices; ConfigError for what is no sparse matrix of numbers."""
    for name in ("left_features", "right_features"):
        if getattr(op, name) is not None:
            setattr(op, name, _as("ColumnSimilarity", _matrix, getattr(op, name)))


def _as(operator: str, make: Any, parts: Any) -> Any:
    """Return what `make` makes of parts; whatever is missing in them is ConfigError."""
    try:
        return make(parts)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        received = f"{type(error).__name__}: {error}"[:300]
        subject = f"the table of {operator} in the pickle"
        raise ConfigError(subject, expected="one of plain columns", received=received, hint=_HINT) from error


def _is(kind: type[Parts], found: Any) -> Any:
    if type(found) is not kind:
        raise ValueError(f"expected {(kind.__doc__ or '').partition(':')[0].rstrip('.')}, not {type(found).__name__}")
    return found


def _table(dataset: Any) -> Any:
    """Return the data frame of a Dataset that was given one."""
    lazy = _is(Lazy, _is(Engine, _is(Data, dataset).state["engine"]).state["_ddf"])
    layers = list(_is(Graph, lazy.state[0]).state["layers"].values())
    if len(layers) != 1 or len(mapping := _is(Layer, layers[0]).state["mapping"]) != 1:
        raise ValueError("a data frame in several parts")
    return _frame(next(iter(mapping.values())))


def _frame(parts: Any) -> Any:
    """Return a pandas.DataFrame: every column from a row of a block, in their order."""
    import pandas

    blocks, axes = _is(Manager, _is(Table, parts).state["_mgr"]).arguments
    names = _labels(axes[0])
    columns: dict[int, Any] = {}
    for block in blocks:
        values, places, _ = _is(Block, block).arguments
        values = _values(values)
        where = range(len(names))[places] if isinstance(places, slice) else [int(place) for place in places]
        if values.ndim != 2 or len(where) != len(values):
            raise ValueError("a block of another shape")
        columns |= dict(zip(where, values, strict=True))
    if set(columns) != set(range(len(names))) or len(set(names)) != len(names):
        raise ValueError("columns without values, or of the same name")
    return pandas.DataFrame({name: columns[place] for place, name in enumerate(names)})


def _labels(index: Any) -> list[str]:
    kind, arguments = _is(Index, index).arguments
    if kind is not IndexKind:
        raise ValueError("columns that are not named by text")
    found = _values(arguments["data"]).tolist()
    if not all(isinstance(name, str) for name in found):
        raise ValueError("columns that are not named by text")
    return list(found)


def _values(array: Any) -> np.ndarray[Any, Any]:
    """Return an array of numbers, or of text, bools, numbers and nulls."""
    if isinstance(array, np.ndarray):
        if array.dtype.kind not in _NUMBERS:
            raise ValueError(f"an array of {array.dtype}")
        return array
    _, shape, _, fortran, values = _is(ObjectArray, array).state
    if not isinstance(values, list) or not all(type(value) in _PLAIN for value in values):
        raise ValueError("values that are not text, numbers, bools or nulls")
    found = np.empty(len(values), object)
    found[:] = values
    return found.reshape(shape, order="F" if fortran else "C")


def _matrix(parts: Any) -> Any:
    from scipy.sparse import coo_matrix, csr_matrix

    state = parts.state
    shape = tuple(int(size) for size in state["_shape"])
    if type(parts) is Triples:
        places = state["coords"] if "coords" in state else (state["row"], state["col"])
        found = coo_matrix((_values(state["data"]), tuple(map(_values, places))), shape=shape)
        found.has_canonical_format = False
    else:
        _is(Rows, parts)
        found = csr_matrix(tuple(_values(state[name]) for name in ("data", "indices", "indptr")), shape=shape)
        found.check_format(full_check=True)
    return found
