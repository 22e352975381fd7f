"""The edge's Lua in LuaJIT as nginx has it, with Debian's own JSON library."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest
from lupa import luajit21

EDGE = Path(__file__).parents[3] / "roles" / "nginx" / "files"
LIBRARIES = sorted(Path("/usr/lib").glob("*/lua/5.1/cjson.so"))


def runtime() -> Any:
    """A LuaJIT that finds the edge's modules and lua-cjson; skips where that is not installed."""
    if not LIBRARIES:
        pytest.skip("lua-cjson is not installed (lab/prerequisites.sh installs it)", allow_module_level=True)
    # The library takes Lua's own functions from what is loaded for all.
    ctypes.CDLL(luajit21.__file__, mode=ctypes.RTLD_GLOBAL)
    made = luajit21.LuaRuntime(unpack_returned_tuples=True, encoding="latin-1")
    made.globals().package.path = f"{EDGE}/?.lua"
    made.globals().package.cpath = str(LIBRARIES[0].parent / "?.so")
    return made
