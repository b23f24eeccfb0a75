"""What tensors and metadata keys are called where one part writes them and another reads them."""

from __future__ import annotations

FINGERPRINT = "mews.fingerprint"
"""The key of the graph's fingerprint in Parquet metadata, ONNX metadata and the parameters of config.pbtxt."""

FEATURES = "mews.features"
"""The key, in the ONNX metadata of preprocessing, of a JSON object: output tensor by feature column."""

LENGTH = "__length"
"""A ragged list input `x` has its lengths in the input `x__length`, int32 [batch, 1]."""

SCORE = "score"
"""The output of a model: probability, float32 [batch, 1]."""

ROW = "__row__"
"""The column that numbers the rows of a data set from 0, while a plan runs that needs it."""
