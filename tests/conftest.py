"""What every test may use: the real data sets, a hypothesis profile that is the same on every machine, and which tests
`pytest -n` keeps together."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile(
    "mews", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mews")

# Made once a session and costly: all files that use one are run by the same worker.
COSTLY = ("demo", "trained", "merlin", "watched", "asked")
# The longest first, and what is divided into the smallest parts last, so that both workers end together.
ORDER = ("e2e", "dropin", "watch", "deploy", "clients", "ensemble", "reliability", "saved", "unit", "conformance")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares fixtures: a file, files with the same costly fixture, or a case of conformance."""
    used: dict[Path, set[str]] = defaultdict(set)
    for item in items:
        used[item.path].update(getattr(item, "fixturenames", ()))
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_group(item, used[item.path])))
    items.sort(key=_place)


def _group(item: pytest.Item, fixtures: set[str]) -> str:
    costly = next((name for name in COSTLY if name in fixtures), None)
    if costly is not None:
        return costly
    if "conformance" in item.path.parts:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")  # type: ignore[attr-defined]
        return f"case {case!r}" if case else item.name
    return item.path.relative_to(ROOT / "tests").with_suffix("").as_posix()


def _place(item: pytest.Item) -> tuple[int, bool]:
    marker = item.get_closest_marker("xdist_group")
    folder = item.path.relative_to(ROOT / "tests").parts[0]
    place = ORDER.index(folder) if folder in ORDER else len(ORDER) - 2
    return place, marker is None or marker.args != ("demo",)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("MEWS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MEWS_DATA to the folder that holds online-retail and the others")
    return folder
