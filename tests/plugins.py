"""Load a role's plugin or module as Python does, for tests of its functions."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROLES = Path(__file__).resolve().parent.parent / "roles"


def load_plugin(role: str, kind: str, name: str) -> ModuleType:
    """Import roles/ROLE/KIND/NAME.py under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"{role}_{kind}_{name}", ROLES / role / kind / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
