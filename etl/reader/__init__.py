"""NVTabular workflow to FeatureGraph, and back; NVTabular is imported when one of the two is called, not before."""

from etl.reader.hydrate import hydrate
from etl.reader.read import read

__all__ = ["hydrate", "read"]
