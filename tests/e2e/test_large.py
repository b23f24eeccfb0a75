"""The benchmarks of large models, on small ones: the same code, the same checks."""

from __future__ import annotations

from pathlib import Path

from benchmarks import large, loading


def test_a_table_beside_the_graph_is_exported_served_and_measured(tmp_path: Path) -> None:
    report = large.run(0.001, 5_000, tmp_path, work=tmp_path, requests=5, instances=(1,))
    assert [found["vocabulary"] for found in report["results"]] == ["inline", "mapped"]
    assert report["table_bytes"] == 5_003 * 50 * 4
    for found in report["results"]:
        assert found["largest_difference"] <= large.TOLERANCE
        assert found["pss_mb"] > found["anonymous_mb"] > 0
        assert found["disk_mb"] >= report["table_bytes"] / 2**20 - 0.1
    assert [path.name for path in tmp_path.iterdir()] == ["large.json"]


def test_every_way_to_load_a_vocabulary_is_measured() -> None:
    results = loading.run(5_000)["results"]
    assert [found["way"] for found in results] == list(loading.WAYS)
    assert all(found["load_seconds"] > 0 and found["p50_us_1"] > 0 for found in results)
