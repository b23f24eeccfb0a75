"""What tensors and metadata keys are called where one part writes them and another reads them."""

from __future__ import annotations

FINGERPRINT = "mews.fingerprint"
"""The key of the graph's fingerprint in Parquet metadata, ONNX metadata and the parameters of config.pbtxt."""

FEATURES = "mews.features"
"""The key, in the ONNX metadata of preprocessing, of a JSON object: output tensor by feature column."""

TAGS = "mews.tags"
"""The key, in the ONNX metadata of a model, of a JSON object: the tags of each input."""

LENGTH = "__length"
"""A ragged list input `x` has its lengths in the input `x__length`, int32 [batch, 1]."""

VALUES = "__values"
"""A ragged list input `x` that is declared so has its elements, row after row, in the input `x__values`."""

OFFSETS = "__offsets"
"""Where each row of `x__values` begins, and where the last one ends: int32 [batch + 1]."""

NULL = "__null"
"""A column `x` that is declared so says where it is null in the input `x__null`, bool, of the shape of its values."""

REQUEST = "mews.request"
"""The key of the request's columns (JSON) in the parameters of an ensemble's config.pbtxt."""

PACKED = "packed__"
"""A packed request has all scalar columns of a kind side by side in `packed__int64`, `packed__float32` and so on."""

SCORE = "score"
"""The output of a model: probability, float32 [batch, 1]."""

SAMPLE_WEIGHT = "sample_weight"
"""The tag of a feature column that says how much a row counts in training, and that no model reads."""

ITEM = "item"
"""The output of a model of item lists: the best items, [batch, k], in the order of `score`, then [batch, k] too."""

KNOWN = "known"
"""Its output that says how many items of the list it knows, int64 [batch, 1]."""

ROW = "__row__"
"""The column that numbers the rows of a data set from 0, while a plan runs that needs it."""
