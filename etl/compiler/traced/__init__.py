"""What the calls of a traced function mean: etl/compiler/lowering/traced.py puts them together."""
