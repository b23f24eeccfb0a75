"""FeatureGraph -> what runs it: a Polars plan for batch, an ONNX graph for serving.

Two steps: `lowering` says what each operator means in a few typed primitives (expr.py); a target spells primitives.
"""

from etl.compiler.targets.onnx import compile as to_onnx
from etl.compiler.targets.onnx import feature_tensors
from etl.compiler.targets.polars import PolarsPlan
from etl.compiler.targets.polars import compile as to_polars

__all__ = ["PolarsPlan", "feature_tensors", "to_onnx", "to_polars"]
