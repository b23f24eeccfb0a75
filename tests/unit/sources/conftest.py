import pytest

from etl.config import DataConfig
from etl.sources.dataset import Dataset
from etl.sources.registry import open_source


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> Dataset:
    """30,000 generated impressions."""
    config = DataConfig(rows=30_000, users=500, items=200)
    return open_source(config, 3).prepare(tmp_path_factory.mktemp("shop") / "data")
