"""One HTML document that loads nothing: a template, the report's style and script, and a policy against the rest."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mews.report import figures, numbers

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def document(template: str, *styles: str, **values: Any) -> str:
    """Return the template of this name, filled with `values`; `styles` name style sheets beside the report's own."""
    # Jinja2 escapes everything from the data; the policy is the second lock: only this script runs, and nothing loads.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "count": numbers.count, "percent": numbers.percent, "seconds": numbers.seconds, "us": numbers.microseconds,
        "size": numbers.size, "value": numbers.value_text, "sig": numbers.significant, "target": figures.target_name,
    }  # fmt: skip
    script = _resource("report.js").strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(_resource(template)).render(
        css=Markup("".join(_resource(name) for name in ("report.css", *styles))),
        script=Markup(script),
        policy=f"{_POLICY}; script-src 'sha256-{digest}'",
        **values,
    )


def _resource(name: str) -> str:
    return (files("mews") / "templates" / name).read_text(encoding="utf-8")
