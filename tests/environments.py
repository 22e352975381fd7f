"""Programs whose dependencies are at odds with ours, each in a virtual environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def environment(name: str) -> Path:
    """Make an environment what requirements/NAME.txt says, and give its Python; subprocess.CalledProcessError where that fails."""
    directory = ROOT / ".build" / name
    python = directory / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    uv = str(Path(sys.executable).with_name("uv"))
    options = ["--quiet", "--python", str(python), "--require-hashes", str(ROOT / "requirements" / f"{name}.txt")]
    subprocess.run([uv, "pip", "sync", *options], check=True, stdout=sys.stderr)
    return python
