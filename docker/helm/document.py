"""README.md of each chart, from the comments of its values.yaml: `python docker/helm/document.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HELM = Path(__file__).parent
HEADS = {
    "mews": """# The chart `mews`

Serves what `mews export` wrote with NVIDIA Triton on Kubernetes 1.29 or newer. This page is made from values.yaml:
`python docker/helm/document.py`.

```
helm install shop docker/helm/mews --namespace rec --values docker/helm/mews/examples/values-cpu-minimal.yaml
helm test shop --namespace rec
helm rollback shop --namespace rec
```

Examples: `values-cpu-minimal.yaml`, `values-gpu-prod.yaml`, `values-split.yaml` in `examples/`. Unknown keys and values
out of range are refused before anything is sent to the cluster (values.schema.json).

""",
    "mews-pipeline": """# The chart `mews-pipeline`

Makes the models that the chart `mews` serves: features, training, evaluation, release, and the same again on a
schedule. docs/kubernetes.md tells how it works. This page is made from values.yaml: `python docker/helm/document.py`.

```
helm install shop-models docker/helm/mews-pipeline --namespace rec \\
  --values docker/helm/mews-pipeline/examples/values-cpu-minimal.yaml
kubectl --namespace rec create job --from=cronjob/shop-models-mews-pipeline now
```

Examples: `values-cpu-minimal.yaml`, `values-gpu-prod.yaml`, `values-distributed.yaml` in `examples/`. Unknown keys and
values out of range are refused before anything is sent to the cluster (values.schema.json).

""",
}
TABLE = """| value | default | what it is |
|---|---|---|
"""


def comments(text: str) -> dict[str, str]:
    """Return the comment above each key of a YAML file of mappings, by the key's dotted path."""
    found: dict[str, str] = {}
    above: list[str] = []
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            above.append(stripped.lstrip("# "))
        elif stripped.startswith("-") or ":" not in stripped:
            above.clear()
        else:
            depth = len(line) - len(line.lstrip())
            path = [(indent, name) for indent, name in path if indent < depth] + [(depth, stripped.partition(":")[0])]
            found[".".join(name for _, name in path)] = " ".join(above)
            above.clear()
    return found


def leaves(values: dict[str, Any], told: dict[str, str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the default of everything that has no commented keys below it."""
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and any(key.startswith(f"{path}.") and said for key, said in told.items()):
            yield from leaves(value, told, f"{path}.")
        else:
            yield path, value


def document(text: str, chart: str = "mews") -> str:
    """Return the README of a chart for its values.yaml."""
    told = comments(text)
    rows = [
        f"| `{path}` | `{json.dumps(value)}` | {told.get(path) or told.get(path.rpartition('.')[0], '')} |"
        for path, value in leaves(yaml.safe_load(text), told)
    ]
    return HEADS[chart] + TABLE + "\n".join(rows) + "\n"


if __name__ == "__main__":
    for name in HEADS:
        text = (HELM / name / "values.yaml").read_text(encoding="utf-8")
        (HELM / name / "README.md").write_text(document(text, name), encoding="utf-8")
