"""The registry: when a version may be promoted, what MLflow keeps of it, and what happens to a broken store."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import log_loss, roc_auc_score

from etl.errors import ArtifactError, ConfigError, MewsError
from mews import registry
from mews.console import Terminal
from mews.register import DIGEST, ROWS
from mews.run import Run
from mews.session import Session
from training.config import EvaluateConfig
from training.evaluation.clicks import evaluate
from training.registry.config import RegistryConfig, without_secrets
from training.registry.promotion import Judged, judge
from training.registry.store import DATABASE, Store
from training.registry.version import Entry, Version

CONFIG = RegistryConfig()
BY = {"event": "registered", "at": "2026-01-02T03:04:05+00:00", "by": "ada@desk"}
_RANDOM = np.random.default_rng(5)
TRUTH = _RANDOM.normal(0, 2, 3000)
LABELS = (_RANDOM.random(3000) < 1 / (1 + np.exp(-TRUTH))).astype("int8")
NOISE = _RANDOM.normal(0, 1, 3000)


def scores(noise: float) -> np.ndarray[Any, Any]:
    """Probabilities that know the truth less the more noise there is."""
    return (1 / (1 + np.exp(-(TRUTH + noise * NOISE)))).astype("float32")


def judged(noise: float, rows: str = "same") -> Judged:
    found = evaluate(LABELS, scores(noise), EvaluateConfig(bootstrap=50))
    return Judged(found, rows, LABELS, scores(noise))


def sliced(name: str, value: float, rows: int = 500, width: float = 0.02) -> Mapping[str, Any]:
    """Metrics of which nothing but one slice differs between versions."""
    bounds = {"auc_low": value - width, "auc_high": value + width}
    one = {"by": "country", "value": name, "rows": rows, "auc": value, **bounds}
    return {"auc": 0.75, "auc_low": 0.74, "auc_high": 0.76, "slices": {"rows": [one]}}


def test_the_first_version_is_promoted_without_comparison_but_not_without_evaluation() -> None:
    assert judge(judged(0.5), None, CONFIG).allowed
    assert judge(Judged({}), None, CONFIG).reasons == ("it was not evaluated by auc, logloss",)


def test_a_worse_version_is_refused_by_the_rows_they_share_where_intervals_alone_cannot_tell() -> None:
    before, worse = judged(0.5), judged(0.7)
    verdict = judge(worse, before, CONFIG)
    assert [one.how for one in verdict.compared] == ["same rows", "same rows"]
    assert [one.worse for one in verdict.compared] == [True, True]
    assert verdict.reasons[0].startswith("auc 0.")
    assert "is worse than the champion's" in verdict.reasons[0]
    assert judge(before, worse, CONFIG).allowed
    elsewhere = judge(judged(0.7, "other rows"), before, CONFIG)
    assert {one.how for one in elsewhere.compared} == {"intervals"}
    assert elsewhere.allowed
    assert not judge(judged(9, "other rows"), before, CONFIG).allowed


def test_the_interval_of_a_paired_difference_is_that_of_resampled_rows() -> None:
    """DeLong's interval against a bootstrap of the rows, with scikit-learn's AUC and log loss."""
    random, mine, theirs = np.random.default_rng(1), scores(0.9), scores(0.4)
    found = {one.metric: one for one in judge(judged(0.9), judged(0.4), CONFIG).compared}
    draws = [random.integers(0, len(LABELS), len(LABELS)) for _ in range(60)]
    for name, metric in (("auc", roc_auc_score), ("logloss", log_loss)):
        resampled = [metric(LABELS[rows], mine[rows]) - metric(LABELS[rows], theirs[rows]) for rows in draws]
        middle, half = (found[name].high + found[name].low) / 2, (found[name].high - found[name].low) / 2
        assert middle == pytest.approx(metric(LABELS, mine) - metric(LABELS, theirs), abs=1e-6)
        assert half == pytest.approx(1.96 * np.std(resampled), rel=0.3)


def test_a_collapsed_slice_is_a_reason_and_a_small_one_or_a_small_drop_is_none() -> None:
    def reasons(now: Mapping[str, Any], before: Mapping[str, Any], **config: Any) -> tuple[str, ...]:
        return judge(Judged(now), Judged(before), RegistryConfig(**config)).reasons

    collapsed = reasons(sliced("PT", 0.6), sliced("PT", 0.8))
    assert len(collapsed) == 1
    assert collapsed[0].startswith("the slice country = PT collapsed: auc 0.6000 is worse than the champion's 0.8000")
    assert reasons(sliced("PT", 0.76), sliced("PT", 0.8)) == (), "less than the limit"
    assert reasons(sliced("PT", 0.6), sliced("PT", 0.8), max_slice_drop=0.3) == ()
    assert reasons(sliced("PT", 0.6, rows=99), sliced("PT", 0.8)) == (), "too few rows"
    assert reasons(sliced("PT", 0.6, width=0.2), sliced("PT", 0.8)) == (), "within the intervals"
    assert reasons(sliced("DE", 0.6), sliced("PT", 0.8)) == (), "not a slice of both"
    assert reasons(sliced("PT", 0.9), sliced("PT", 0.8)) == ()


def test_a_ranking_metric_can_decide_and_one_that_nobody_measured_is_named() -> None:
    def ranked(value: float) -> Judged:
        return Judged(
            {"ranking": {"metrics": {"ndcg@10": {"value": value, "low": value - 0.01, "high": value + 0.01}}}}
        )

    assert judge(ranked(0.2), ranked(0.3), CONFIG).reasons[0].startswith("ranking.metrics.ndcg@10 0.2000 is worse")
    assert judge(ranked(0.3), ranked(0.2), CONFIG).allowed
    asked = RegistryConfig(metrics=["recall@7"])
    assert judge(ranked(0.3), None, asked).reasons == ("it was not evaluated by recall@7",)
    assert judge(judged(0.5), ranked(0.3), CONFIG).reasons[0] == "the champion has no auc to compare with"


@pytest.mark.parametrize("given", [{"name": "../up"}, {"experiment": "a/b"}, {"uri": "ftp://host"}, {"name": ""}])
def test_a_name_that_escapes_and_an_address_that_is_none_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        RegistryConfig(**given)  # type: ignore[arg-type]


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    from mews.config import load

    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_USERNAME") as caught:
        load(None, ["registry.uri=https://ada:hunter2@registry.example"])
    assert "hunter2" not in str(caught.value)
    assert without_secrets("see https://ada:pw@host/a@b") == "see https://***@host/a@b"


# From here on with MLflow itself, whose import and first database take seconds: one store for all.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two versions in its registry: one good, one bad; each with what a promotion looks at."""
    folder = tmp_path_factory.mktemp("registry") / "run"
    store = Store(CONFIG, Run(folder).registry)
    for number, noise in enumerate((0.4, 2.0), start=1):
        made = store.register(entry(folder.parent / f"files_{number}", noise, f"digest {number}"), BY)
        assert made.number == number
    return folder


def entry(folder: Path, noise: float, digest: str) -> Entry:
    found = judged(noise)
    (folder / "evaluation").mkdir(parents=True)
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(found.metrics))
    assert found.scores is not None
    np.save(folder / "evaluation" / "scores.npy", found.scores[:, None])
    np.save(folder / "labels.npy", LABELS)
    (folder / "card.md").write_text("# card")
    files = {
        "evaluation": folder / "evaluation",
        "labels/labels.npy": folder / "labels.npy",
        "card.md": folder / "card.md",
    }
    tags = {DIGEST: digest, ROWS: "the test rows"}
    return Entry(
        {"model.name": '"mf"', "model.top": "[64]"}, {"auc": found.metrics["auc"], "ndcg@10": 0.5}, tags, files
    )


def session(folder: Path) -> Session:
    return Session(None, Run(folder), [], Terminal(quiet=True))


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(CONFIG, Run(folder).registry)


def test_what_was_registered_comes_back(store: Store, tmp_path: Path) -> None:
    version = store.version("2")
    assert version == store.version("challenger") == store.version(2)
    assert (version.aliases, version.tags[DIGEST], list(version.events)) == (("challenger",), "digest 2", [BY])
    parameters, metrics = store.run(version)
    assert parameters == {"model.name": '"mf"', "model.top": "[64]"}
    assert metrics == {"auc": judged(2.0).metrics["auc"], "ndcg_10": 0.5}
    kept = store.file_of(version, "evaluation/scores.npy", tmp_path)
    assert kept is not None
    assert np.array_equal(np.load(kept, allow_pickle=False)[:, 0], scores(2.0))
    assert store.file_of(version, "evaluation/nothing.npy", tmp_path) is None
    files = [path for path in store.file.parent.rglob("*") if path.is_file()] if store.file else []
    assert {path.suffix for path in files} <= {".sqlite", ".json", ".npy", ".md"}, "nothing is pickled"


def test_versions_are_asked_for_page_by_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = store.versions()
    ask = store._client.search_model_versions
    monkeypatch.setattr(store._client, "search_model_versions", lambda *args, **more: ask(*args, max_results=1, **more))
    assert store.versions() == whole
    assert len(whole) == 2


@pytest.mark.parametrize("which", ["3", "nobody", "../1", "0"])
def test_an_unknown_version_is_named_with_those_there_are(store: Store, which: str) -> None:
    with pytest.raises(ConfigError, match=r"expected one of 1.*, 2.*; received none such"):
        store.version(which)


def test_promotion_is_refused_forced_and_told_of_in_the_history(folder: Path) -> None:
    """The whole story of two versions, as `mews models promote` and `mews versions history` tell it."""
    first = registry.promote(session(folder), "1", False, None)
    assert (first["promoted"], first["replaced"], first["aliases"]) == (True, None, ["champion"])
    assert registry.promote(session(folder), "champion", False, None)["promoted"] is False
    with pytest.raises(MewsError, match=r"promotion of version 2 refused; received auc .* is worse") as refused:
        registry.promote(session(folder), None, False, "it should be")
    assert "same rows" in str(refused.value)
    assert registry.show(session(folder), "champion")["version"] == 1
    for reason in (None, " "):
        with pytest.raises(ConfigError, match="--reason"):
            registry.promote(session(folder), "2", True, reason)
    forced = registry.promote(session(folder), "2", True, "the page needs it")
    assert (forced["replaced"], forced["verdict"]["allowed"]) == (1, False)
    assert registry.show(session(folder), "previous")["version"] == 1
    back = registry.promote(session(folder), "previous", False, None)
    assert (back["version"], back["replaced"], back["verdict"]["allowed"]) == (1, 2, True)

    told = [(one["version"], one["event"]) for one in registry.history(session(folder))]
    assert sorted(told[:2]) == [(1, "registered"), (2, "registered")]
    assert told.count((2, "refused")) == 1
    assert told.count((1, "promoted")) == 2
    events = {(one["version"], one["event"]): one for one in registry.history(session(folder))}
    assert events[2, "promoted"]["detail"].startswith("reason: the page needs it; in spite of: auc")
    assert events[2, "promoted"]["detail"].endswith("instead of version 1")
    assert events[2, "refused"]["detail"].startswith("reason: it should be; auc")
    assert events[2, "registered"]["by"] == "ada@desk"
    assert all(one["by"] not in ("", None) and one["at"] for one in registry.history(session(folder)))


def test_a_run_without_a_registry_says_what_to_do(tmp_path: Path) -> None:
    for ask in (
        lambda: registry.show(session(tmp_path), None),
        lambda: registry.promote(session(tmp_path), None, False, None),
    ):
        with pytest.raises(ConfigError, match="Run `mews models register` first"):
            ask()
    with pytest.raises(ConfigError, match="expected registered or exported versions"):
        registry.history(session(tmp_path))
    assert not (tmp_path / "registry").exists(), "asking makes no registry"


@pytest.mark.parametrize("broken", ["torn", "empty", "of another", "folder"])
def test_a_broken_registry_is_named_and_left_as_it_is(folder: Path, tmp_path: Path, broken: str) -> None:
    kept = tmp_path / "run" / "registry"
    shutil.copytree(folder / "registry", kept)
    file = kept / DATABASE
    whole = file.read_bytes()
    file.unlink()
    match broken:
        case "torn":
            file.write_bytes(whole[:4096] + b"x" * 8192 + whole[12288:])
        case "empty":
            file.touch()
        case "folder":
            file.mkdir()
        case _:
            with closing(sqlite3.connect(file)) as connection:
                connection.execute("create table customers (name text)")
    before = b"" if file.is_dir() else file.read_bytes()
    with pytest.raises(ArtifactError, match=f"registry .*{DATABASE}"):
        registry.show(session(tmp_path / "run"), None)
    assert file.is_dir() or file.read_bytes() == before
    assert (kept / "artifacts").is_dir()


def test_a_version_whose_files_are_gone_is_not_promoted(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "registry", run / "registry")
    store = Store(CONFIG, run / "registry")
    lost = store.register(Entry({}, {}, {DIGEST: "lost"}, {}), BY)
    with pytest.raises(MewsError, match="it was not evaluated by auc, logloss"):
        registry.promote(session(run), str(lost.number), False, None)


def test_a_version_says_what_happened_to_it_as_plain_values() -> None:
    version = Version(3, "2026-01-02T03:04:05+00:00", ("champion",), {"a": "b"}, (BY,), "run")
    assert json.loads(json.dumps(version.to_json())) == {
        "version": 3,
        "created": "2026-01-02T03:04:05+00:00",
        "aliases": ["champion"],
        "tags": {"a": "b"},
        "events": [BY],
        "run_id": "run",
    }
