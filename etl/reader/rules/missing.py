"""Operators on missing values."""

from __future__ import annotations

from etl.reader.rules import Rule, add, attributes, same_arguments

add("FillMissing", Rule(attributes("fill_val", "add_binary_cols"), same_arguments))
