"""A run folder with every part the report reads, with plausible figures; for the report's tests."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

TARGETS = {"identity": (240, 14_900), "fused": (322, 9_100), "chained": (710, 5_600), "stock": (8_240, 119)}
ROWS = {"train": 320_000, "valid": 40_000, "test": 40_000}
CATEGORICAL = ("user_id", "item_id", "country", "device", "category")


def write(folder: Path) -> Path:
    """Write the files of a whole run into `folder` and return it."""
    parts = {
        "summary.json": _summary(),
        "data/profile.json": _profile(),
        "data/validated/validation.json": _validation(),
        "data/split_checks.json": {"checks": [_check("leakage", "", "PASS", "no row in two parts")]},
        "data/raw/dataset.json": {
            "name": "generated",
            "rows": 400_000,
            "facts": {"licence": "none needed", "truth": "truth"},
        },
        "features/graph/graph.json": _graph(),
        "features/features.json": _features(),
        "model/history.json": _history(),
        "model/training.json": {"best_epoch": 4, "config": {"name": "dlrm"}, "samples_per_s": 83_000},
        "evaluation/metrics.json": _metrics(),
        "bench/serving.json": _serving(),
        "parity.json": {"http_max_abs_diff": 5.96e-8, "grpc_max_abs_diff": 5.96e-8, "rows": 40_000},
        "repository/mews/1/manifest.json": _manifest(),
    }
    for name, document in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    (folder / "config.yaml").write_text("seed: 7\ndata:\n  source: generated\n  rows: 400000\n", encoding="utf-8")
    return folder


def change(folder: Path, name: str, **changes: Any) -> None:
    """Replace top-level keys of one of the JSON files."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


def _summary() -> dict[str, Any]:
    stages = {"data": 6.2, "validate": 2.4, "split": 1.1, "fit": 3.5, "transform": 2.9, "train": 61.4, "evaluate": 5.8}
    return {
        "data": {"rows": 400_000, "source": "generated"},
        "features": {"operators": 9, "columns": 9, "fit_seconds": 3.5, "transform_seconds": 2.9},
        "model": {"name": "dlrm", "auc": 0.7421, "auc_low": 0.7382, "auc_high": 0.7466, "auc_best": 0.7533},
        "seconds": {**stages, "export": 7.3, "query": 9.6, "bench": 58.8},
        "peak_rss_mb": 2310.4,
        "versions": {
            "mews": "0.1.0",
            "python": "3.11.7",
            "polars": "1.44.2",
            "tensorflow": "2.12.1",
            "nvtabular": "23.8.0",
        },
    }


def _column(name: str, dtype: str, role: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "role": role, "rows": 400_000, "nulls": 0, **more}


def _coded_columns() -> list[dict[str, Any]]:
    tops = [
        {"value": v, "count": c}
        for v, c in (("DE", 121_000), ("FR", 80_400), ("GB", 61_200), ("ES", 33_000), ("PL", 21_000))
    ]
    return [
        _column("user_id", "int64", "user", distinct=19_871, min=0, max=20_411, top=[{"value": 17, "count": 4100}]),
        _column("item_id", "int64", "item", distinct=4_998, min=0, max=5_120, top=[{"value": 3, "count": 11_100}]),
        _column("country", "string", "categorical", distinct=42, nulls=8_120, top=tops),
        _column("device", "string", "categorical", distinct=4, top=tops[:3]),
        _column(
            "category",
            "string",
            "categorical",
            distinct=120,
            top=[{"value": "garden furniture and more", "count": 91_000}],
        ),
        _column(
            "tags",
            "string",
            "tags",
            list=True,
            lengths={"min": 0, "mean": 2.4, "max": 6},
            distinct=310,
            nulls=20_140,
            top=tops,
        ),
    ]


def _measured_columns() -> list[dict[str, Any]]:
    moments = [f"2024-03-{day:02d} 00:00:00" for day in range(1, 22)]
    bell = [round(9000 * math.exp(-(((i - 7) / 4) ** 2)) + 40) for i in range(20)]
    return [
        _column(
            "price",
            "float64",
            "numeric",
            distinct=9_914,
            nulls=12_011,
            min=0.49,
            mean=34.217,
            max=1899.0,
            histogram={"edges": [i * 10.0 for i in range(21)], "counts": bell},
        ),
        _column(
            "age",
            "int64",
            "numeric",
            distinct=71,
            min=16,
            mean=38.4,
            max=93,
            nulls=31_000,
            histogram={"edges": [16.0 + 4 * i for i in range(21)], "counts": bell[::-1]},
        ),
        _column(
            "timestamp",
            "datetime",
            "timestamp",
            distinct=390_123,
            min="2024-03-01 00:00:07",
            mean="2024-03-14 11:59:00",
            max="2024-03-28 23:59:51",
            histogram={"edges": moments, "counts": bell},
        ),
        _column(
            "label",
            "int8",
            "label",
            distinct=2,
            min=0,
            mean=0.2513,
            max=1,
            top=[{"value": 0, "count": 299_480}, {"value": 1, "count": 100_520}],
            histogram={"edges": [0, 0.5, 1], "counts": [299_480, 100_520]},
        ),
    ]


def _profile() -> dict[str, Any]:
    days = [
        {"day": f"2024-03-{day:02d}", "rate": 0.25 + 0.03 * math.sin(day / 3), "rows": 14_000} for day in range(1, 29)
    ]
    return {
        "rows": 400_000,
        "columns": [*_coded_columns(), *_measured_columns()],
        "label": {"column": "label", "rate": 0.2513, "by_day": days},
        "splits": {
            "by": "time",
            "rows": ROWS,
            "boundaries": {"valid": "2024-03-23 05:10:00", "test": "2024-03-26 01:02:03"},
        },
        "cold_start": {"user": {"valid": 0.012, "test": 0.061}, "item": {"valid": 0.004, "test": 0.033}},
    }


def _check(name: str, column: str, status: str, detail: str) -> dict[str, Any]:
    return {"name": name, "column": column or None, "status": status, "detail": detail}


def _validation() -> dict[str, Any]:
    checks = [
        _check("columns", "", "PASS", "9 of 9 declared columns"),
        _check("null_rate", "age", "WARN", "7.75 % nulls"),
        _check("range", "price", "PASS", "0.49 to 1,899"),
        _check("duplicate_keys", "", "PASS", "0 of 400,000"),
    ]
    return {
        "checks": checks,
        "rows": 400_000,
        "quarantined": 37,
        "reasons": {"price below 0": 30, "user_id is null": 7},
    }


def _graph() -> dict[str, Any]:
    def column(name: str, dtype: str = "int64", **more: Any) -> dict[str, Any]:
        return {"name": name, "dtype": dtype, "is_list": False, "length": None, "tags": [], "cardinality": None, **more}

    def node(key: str, op: str, before: list[list[str]], names: list[str], **params: Any) -> dict[str, Any]:
        return {
            "id": key,
            "op": op,
            "inputs": before,
            "outputs": [column(n) for n in names],
            "params": params,
            "state": None,
        }

    scalars, numeric = [*CATEGORICAL], ["price", "age"]
    nodes = [
        node("n1", "Categorify", [["input", name] for name in scalars], scalars, freq_threshold=2),
        node("n2", "Categorify", [["input", "tags"]], ["tags"], max_size=200),
        node("n3", "ListSlice", [["n2", "tags"]], ["tags"], end=4, pad=True),
        node("n4", "FillMissing", [["input", name] for name in numeric], numeric, fill_val=0),
        node("n5", "Clip", [["n4", "price"]], ["price"], min_value=0),
        node("n6", "LogOp", [["n5", "price"]], ["price"]),
        node("n7", "Normalize", [["n6", "price"], ["n4", "age"]], ["price", "age"], out_dtype="float32"),
        node("n8", "AddMetadata", [["input", "label"]], ["label"]),
    ]
    return {
        "format": "mews-feature-graph",
        "version": 1,
        "fingerprint": "4f1c0d9ab7e2" + "0" * 52,
        "inputs": [column(name, "string") for name in (*scalars, "tags", *numeric, "label")],
        "nodes": nodes,
        "outputs": [
            *(["n1", name] for name in scalars),
            ["n3", "tags"],
            ["n7", "price"],
            ["n7", "age"],
            ["n8", "label"],
        ],
    }


def _features() -> dict[str, Any]:
    sizes = dict(zip((*CATEGORICAL, "tags"), (18_204, 4_901, 45, 7, 123, 200), strict=True))
    columns = [
        {
            "name": name,
            "dtype": "int64",
            "is_list": name == "tags",
            "length": 4 if name == "tags" else None,
            "tags": ["categorical"],
            "cardinality": size,
        }
        for name, size in sizes.items()
    ]
    columns += [
        {"name": name, "dtype": "float32", "tags": ["continuous"], "cardinality": None} for name in ("price", "age")
    ]
    operators = ["Categorify", "Categorify", "ListSlice", "FillMissing", "Clip", "LogOp", "Normalize", "AddMetadata"]
    return {"operators": operators, "columns": columns, "rows": ROWS, "fit_seconds": 3.5, "transform_seconds": 2.9}


def _history() -> list[dict[str, Any]]:
    losses = (
        (0.561, 0.539, 0.703),
        (0.528, 0.521, 0.729),
        (0.514, 0.513, 0.739),
        (0.503, 0.511, 0.7431),
        (0.494, 0.514, 0.741),
    )
    return [
        {
            "epoch": i + 1,
            "train_loss": a,
            "valid_loss": b,
            "valid": {"auc": c},
            "seconds": 12.1,
            "samples_per_s": 82_000.0,
        }
        for i, (a, b, c) in enumerate(losses)
    ]


def _metrics() -> dict[str, Any]:
    at = [i / 200 for i in range(201)]

    def judged(auc: float, logloss: float, ece: float) -> dict[str, Any]:
        found = {"auc": auc, "logloss": logloss, "ece": ece}
        return (
            found
            | {f"{k}_low": v * 0.992 for k, v in found.items()}
            | {f"{k}_high": v * 1.008 for k, v in found.items()}
        )

    edges = [i / 50 for i in range(51)]
    return {
        **judged(0.7421, 0.5121, 0.0061),
        "auc_best": 0.7533,
        "confidence": 0.95,
        "baselines": {"constant": judged(0.5, 0.5634, 0.002), "popularity": judged(0.6188, 0.5489, 0.0094)},
        "roc": {"fpr": at, "tpr": [x**0.38 for x in at]},
        "calibration": [
            {"predicted": 0.04 + 0.04 * i, "observed": 0.035 + 0.0405 * i, "rows": 2666} for i in range(15)
        ],
        "histogram": {
            "edges": edges,
            "negatives": [round(4000 * math.exp(-(((x - 0.17) / 0.12) ** 2))) for x in edges[1:]],
            "positives": [round(1300 * math.exp(-(((x - 0.36) / 0.18) ** 2))) for x in edges[1:]],
        },
    }


def _serving() -> dict[str, Any]:
    results = []
    for target, (p50, rate) in TARGETS.items():
        for concurrency in (1, 4, 16):
            for batch in (1, 64):
                rps = min(1e6 / p50 * concurrency, rate) / (1 if batch == 1 else 2.2)
                p = 1e6 * concurrency / rps
                results.append(
                    {
                        "target": target,
                        "protocol": "grpc",
                        "concurrency": concurrency,
                        "batch": batch,
                        "p50_us": p,
                        "p90_us": p * 1.3,
                        "p99_us": p * 2.4,
                        "rows_per_s": rps * batch,
                        "requests_per_s": rps,
                        "errors": 0,
                    }
                )
    results = [
        row | ({"p50_us": TARGETS[row["target"]][0]} if row["concurrency"] == row["batch"] == 1 else {})
        for row in results
    ]
    cdf = {
        target: {
            "share": [q / 100 for q in range(101)],
            "us": [p50 * (0.8 + 0.25 * (q / 100) + 0.02 / (1.01 - q / 100)) for q in range(101)],
        }
        for target, (p50, _) in TARGETS.items()
    }
    machine = {"cpu": "Example CPU @ 2.40GHz", "cores": 2, "memory_gb": 15.6, "os": "Debian GNU/Linux 12", "gpu": None}
    extra = {"targets": _targets(), "waterfall": {"fused": {"phases": _phases()}}}
    return {"results": results, "cdf": cdf, "ratios": {}, "machine": machine, **extra}


def _targets() -> dict[str, Any]:
    told = {"note": "Merlin Systems' export", "max_abs_diff": 1.5e-7, "differs": False}
    costs = {"memory_mb": 1163.6, "startup_s": 12.25, "disk_mb": 1.6}
    return {
        "stock": {**told, **costs},
        "litserve": {"note": "LitServe", "failed": "litserve not installed (make peers)"},
        "bentoml": {**costs, "note": "BentoML", "max_abs_diff": 0.25, "differs": True},
    }


def _phases() -> list[dict[str, Any]]:
    rest = [("mews_fused_1", "queue", 20.0), ("mews_fused_1", "compute", 180.0), ("ensemble", "scheduling", 25.0)]
    named = [("client", "client and network", 97.0), *rest]
    return [{"stage": stage, "phase": phase, "us": us} for stage, phase, us in named]


def _manifest() -> dict[str, Any]:
    names = ("config.pbtxt", "mews_features_1/1/model.onnx", "mews_model_1/1/model.onnx")
    files = {name: {"sha256": f"{index}" * 64, "size": 1024 * 37 ** (index + 1)} for index, name in enumerate(names)}
    return {"name": "mews", "version": 1, "fingerprint": "4f1c0d9ab7e2" + "0" * 52, "files": files}
