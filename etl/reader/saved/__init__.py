"""Workflows that other people saved, as feature graphs.

Nothing that is found in a folder is run. A pickle is only read where the caller says so, and through a list of what it
may name; a JSON graph is data. Both are rebuilt in a process of their own, and come back as one of our folders.
"""

from etl.reader.saved.load import load_workflow

__all__ = ["load_workflow"]
