"""The rules of operators that change rows, a module for each family; importing them fills relational.RULES."""

from etl.compiler.rows import drops, groups

__all__ = ["drops", "groups"]
