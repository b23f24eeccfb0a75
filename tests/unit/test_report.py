"""The report: what it shows, what it leaves out, and what hostile or broken input does to it."""

from __future__ import annotations

import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from etl.errors import ArtifactError
from mews.report import numbers, render, svg
from mews.report.data import points, read, records
from mews.report.diagram import flow

VOID = {"meta", "link", "br", "img", "input", "hr", "path", "circle", "rect", "line"}


def _example() -> ModuleType:
    specification = importlib.util.spec_from_file_location(
        "report_example", Path(__file__).parents[1] / "report_example.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


example = _example()


class Page(HTMLParser):
    """The elements of a page, its visible text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return example.write(tmp_path / "demo")


def page(run: Path) -> Page:
    found = Page(render(run).read_text(encoding="utf-8"))
    assert not found.open
    return found


def test_a_whole_run_shows_its_figures(run: Path) -> None:
    text = page(run).text
    for shown in (
        "DLRM on generated",
        "400,000",
        "0.7421",
        "0.7362 to 0.7480",
        "322 µs",
        "1.34 ×",
        "25.6 ×",
        "76.5 ×",
        "6 × 10⁻⁸",
    ):
        assert shown in text
    for heading in (
        "Label rate over time",
        "Never seen in training",
        "Validation",
        "From raw columns to features",
        "ROC",
        "Calibration",
    ):
        assert heading in text
    assert "adds it" not in text


def test_it_is_one_file_that_loads_nothing(run: Path) -> None:
    target = render(run)
    found = page(run)
    assert target.stat().st_size < 1_000_000
    for tag in ("link", "img", "iframe", "object", "embed", "use", "image"):
        assert not found.named(tag)
    assert not [
        value for _, attributes in found.elements for name, value in attributes.items() if name in ("src", "srcset")
    ]
    assert all(str(link["href"]).startswith("#") for link in found.named("a"))
    policy = next(str(meta["content"]) for meta in found.named("meta") if meta.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_every_chart_says_what_it_shows_and_takes_the_focus(run: Path) -> None:
    pictures = page(run).named("svg")
    assert len(pictures) > 10
    assert all(
        picture["role"] == "img" and picture["aria-label"] and picture["tabindex"] == "0" for picture in pictures
    )


def test_links_and_labels_point_at_something(run: Path) -> None:
    found = page(run)
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = [str(link["href"])[1:] for link in found.named("a")]
    wanted += [
        str(attributes["aria-labelledby"]) for _, attributes in found.elements if "aria-labelledby" in attributes
    ]
    assert set(wanted) <= set(ids)


HOSTILE = "\"'><img src=x onerror=alert(1)><script>alert(2)</script></style></svg>{{ 7*7 }}"


def test_hostile_names_stay_text(run: Path) -> None:
    changed = 0
    for path in [*run.rglob("*.json"), run / "config.yaml"]:
        text = path.read_text()
        for name in (
            "price",
            "country",
            "generated",
            "dlrm",
            "popularity",
            "identity",
            "fit_seconds",
            "null_rate",
            "model.onnx",
            "polars",
            "DE",
        ):
            replaced = re.sub(
                rf'"{re.escape(name)}"|\bsource: {re.escape(name)}',
                lambda _, name=name: json.dumps(HOSTILE + name),
                text,
            )
            changed, text = changed + (replaced != text), replaced
        path.write_text(text)
    found = page(run)
    assert changed > 10
    assert len(found.named("script")) == 1
    assert not found.named("img")
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in found.text
    assert f"{HOSTILE}country" in found.text


@pytest.mark.parametrize(
    ("missing", "note"),
    [
        ("data/profile.json", "mews data describe"),
        ("data/validated/validation.json", "mews data validate"),
        ("features/features.json", "mews etl transform"),
        ("model/history.json", "mews train"),
        ("evaluation/metrics.json", "mews evaluate"),
        ("parity.json", ""),
        ("bench/serving.json", "mews bench serving"),
        ("summary.json", ""),
        ("features/graph/graph.json", ""),
        ("repository/mews/1/manifest.json", ""),
        ("model/training.json", ""),
        ("config.yaml", ""),
    ],
)
def test_a_missing_part_is_left_out_with_a_note(run: Path, missing: str, note: str) -> None:
    (run / missing).unlink()
    assert note in page(run).text


def test_an_empty_folder_gives_a_page_of_notes(tmp_path: Path) -> None:
    text = page(tmp_path).text
    assert "No stage of this run has finished" in text
    assert "mews train" in text


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nothing there"):
        render(tmp_path / "absent")


@pytest.mark.parametrize(
    "content", ["", "{", "[1, 2]", '"text"', "null", "\x00", '{"results": [{"target": null}], "columns": [3]}']
)
def test_broken_files_do_not_stop_the_report(run: Path, content: str) -> None:
    for path in run.rglob("*.json"):
        path.write_text(content)
    text = page(run).text
    if content in ("", "{"):
        assert "data/profile.json cannot be read" in text


def test_values_that_are_no_numbers_are_dashes_not_failures(run: Path) -> None:
    for path in run.rglob("*.json"):
        path.write_text(re.sub(r"(?<=[:\[,] )-?\d+(\.\d+)?", "NaN", path.read_text()))
    assert "nan" not in page(run).text.lower()


def test_a_failed_aim_is_said_to_have_failed(run: Path) -> None:
    example.change(run, "parity.json", grpc_max_abs_diff=0.02)
    example.change(run, "evaluation/metrics.json", auc=0.61)
    text = page(run).text
    assert "✗ at most 1 × 10⁻⁵" in text
    assert "✗ 0.1433 below the best reachable" in text


def test_failed_checks_come_first(run: Path) -> None:
    checks = [{"name": f"check_{status}", "status": status, "detail": ""} for status in ("PASS", "WARN", "FAIL")]
    example.change(run, "data/validated/validation.json", checks=checks)
    text = page(run).text
    assert text.index("check FAIL") < text.index("check WARN") < text.index("check PASS")


def test_chained_only_results_are_compared_too(run: Path) -> None:
    results = [
        row for row in json.loads((run / "bench/serving.json").read_text())["results"] if row["target"] != "fused"
    ]
    example.change(run, "bench/serving.json", results=results, cdf={})
    assert "p50 of chained over the floor" in page(run).text


def test_what_was_compared_and_where_the_time_goes(run: Path) -> None:
    text = page(run).text
    for shown in ("litserve not installed (make peers)", "differs, not compared", "1,164", "1.5 × 10⁻⁷"):
        assert shown in text
    assert "Where a request's time goes: fused" in text
    assert "mews_fused_1: compute" in text


def test_only_the_newest_manifest_is_listed(run: Path) -> None:
    newer = run / "repository/mews/10/manifest.json"
    newer.parent.mkdir()
    newer.write_text(
        json.dumps({"name": "mews", "version": 10, "files": {"new.onnx": {"sha256": "ab" * 32, "size": 3}}})
    )
    text = page(run).text
    assert "new.onnx" in text
    assert "model.onnx" not in text


def test_the_graph_is_followed_from_raw_columns_to_features(run: Path) -> None:
    data = read(run)
    chains = {name: (roots, ops) for roots, ops, name in flow(data.graph, {}).chains}
    assert chains["price"] == ("price", ("FillMissing", "Clip", "LogOp", "Normalize"))
    assert chains["age"] == ("age", ("FillMissing", "Normalize"))
    assert chains["user_id"] == ("user_id", ("Categorify",))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (numbers.significant(0.0000123), "1.23 × 10⁻⁵"),
        (numbers.significant(1234567), "1,234,567"),
        (numbers.significant(-0.5), "−0.5"),
        (numbers.significant(float("nan")), "–"),
        (numbers.significant(0), "0"),
        (numbers.count(1234.6), "1,235"),
        (numbers.count(None), "–"),
        (numbers.compact(9100), "9.1 k"),
        (numbers.percent(0.25), "25 %"),
        (numbers.percent(1e-9), "< 0.01 %"),
        (numbers.seconds(205), "3 min 25 s"),
        (numbers.seconds(7325), "2 h 2 min"),
        (numbers.seconds(0.0124), "12.4 ms"),
        (numbers.microseconds(380), "380 µs"),
        (numbers.microseconds(8240), "8.24 ms"),
        (numbers.size(1536), "1.5 KiB"),
        (numbers.value_text(True), "true"),
        (numbers.value_text(20411), "20,411"),
        (numbers.value_text(2024), "2024"),
    ],
)
def test_numbers_are_written_for_people(written: str, expected: str) -> None:
    assert written.replace(numbers.NBSP, " ") == expected


def test_ticks_are_round_and_inside() -> None:
    assert svg.ticks(0, 1, 5) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert svg.ticks(0.48, 0.58, 5) == [0.48, 0.5, 0.52, 0.54, 0.56, 0.58]
    assert svg.log_ticks(200, 25_000, 3) == [1000, 10000]
    assert svg.log_ticks(200, 25_000, 4) == [300, 1000, 3000, 10000]
    assert svg.log_ticks(200, 25_000, 8) == [200, 500, 1000, 2000, 5000, 10000, 20000]


def test_tables_and_curves_are_read_and_what_is_none_is_empty() -> None:
    rows = [{"x": 1, "y": 2}, {"x": 3, "y": 4}]
    assert records([*rows, 3, None]) == rows
    assert points(rows, "x", "y") == points({"x": [1, 3], "y": [2, 4]}, "x", "y") == ((1, 2), (3, 4))
    assert points({"x": [1, "a", 3], "y": [2, 4]}, "x", "y") == ((1, 2),)
    assert records("text") == records({"x": 1}) == []
    assert points("text", "x", "y") == points({"x": 1}, "x", "y") == points([], "x", "y") == ()


def test_labels_are_cut_to_the_room_they_have() -> None:
    assert svg.shorten("price", 100) == "price"
    cut = svg.shorten("a_column_with_a_very_long_name", 80)
    assert cut.endswith("…")
    assert svg.text_width(cut) <= 80


def test_checks_that_passed_are_folded_away(run: Path) -> None:
    text = page(run).text
    assert "✓ 4 checks passed" in text
    assert text.index("7.75 % nulls") < text.index("✓ 4 checks passed")
    assert "price below 0 30, user_id is null 7" in text
