"""Functions that a saved workflow carries with it, so that it runs where Mews is not installed.

They stand in modules of their own, which use nothing of Mews when they run.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any


@cache
def carried(name: str) -> Any:
    """Return the module `name` of this folder, made under a name that cannot be imported.

    cloudpickle writes functions of such a module whole; of one that can be imported it would write the name only.
    """
    spec = importlib.util.spec_from_file_location(f"_mews_carried_{name}", Path(__file__).with_name(f"{name}.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}.py is not beside {__file__}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
