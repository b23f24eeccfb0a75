"""Request forms for `mews compile`: those of a YAML file, or what pipeline.yaml has under export.requests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.errors import ConfigError
from etl.requests import RequestForm

if TYPE_CHECKING:
    from mews.session import Session


def forms_of(session: Session, path: Path | None) -> Mapping[str, RequestForm]:
    """Return the forms by raw column: of the file `path`, else of --config or --set; none where nothing says so.

    Raises ConfigError for both at once, and with every problem of the file.
    """
    configured = session.config_file is not None or bool(session.overrides)
    if path is not None and configured:
        raise ConfigError("compile", expected="--requests, or --config and --set", received="both")
    if path is not None:
        return read_forms(path)
    return session.config.export.forms if configured else {}


def read_forms(path: Path) -> Mapping[str, RequestForm]:
    """Return the forms that a YAML file gives raw columns: `age: {null: -1, dtype: int32}`; see docs/requests.md."""
    import yaml
    from pydantic import TypeAdapter, ValidationError

    from ensemble.config import ColumnRequest

    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        received = str(error).replace("\n", " ")[:300]
        raise ConfigError(f"requests {path}", expected="a YAML file of forms by column", received=received) from None
    try:
        found = TypeAdapter(dict[str, ColumnRequest]).validate_python({} if tree is None else tree)
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors()]
        listed = "".join(f"\n  - {problem}" for problem in problems)
        known = f"Forms have: {', '.join(ColumnRequest.model_fields)}; see docs/requests.md."
        raise ConfigError(f"requests {path}: {len(problems)} problem(s){listed}\n", hint=known) from None
    return {name: request.form for name, request in found.items()}


def _problem(item: Mapping[str, Any]) -> str:
    where = ".".join(map(str, item["loc"])) or "the file"
    return f"{where}: {item['msg'][0].lower()}{item['msg'][1:]}; received {item.get('input')!r}"[:300]
