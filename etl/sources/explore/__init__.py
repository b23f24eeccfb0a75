"""What a table of one's own holds: facts of each column, its association with a label, its drift from a reference."""

from __future__ import annotations

from etl.sources.explore.explore import explore
from etl.sources.explore.tables import Table, dataset_table, open_table

__all__ = ["Table", "dataset_table", "explore", "open_table"]
