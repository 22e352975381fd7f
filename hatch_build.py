"""Compile the executor contract: in the wheel's build, and in a checkout by `.venv-build/bin/python hatch_build.py`.

Needs the Python that runs it to have vyper (requirements/build.txt); the compiled artefact is never committed.
"""

import hashlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOM = Path("files/mev/trading/execution")
SOURCE = ROOM / "executor.vy"
ARTEFACT = ROOM / "executor.json"


class ExecutorBuildHook(BuildHookInterface[Any]):
    """Puts executor.json into the wheel; an editable install takes the checkout's, made by `make venv`."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is packed."""
        if version == "editable":
            return
        compile_executor(Path(self.root))
        build_data["artifacts"].append(str(ARTEFACT))


def compile_executor(root: Path) -> bool:
    """Write executor.json {abi, bytecode, source_sha256, compiler} beside its source, if it is not what it says.

    Returns whether it was written. Raises subprocess.CalledProcessError where the compiler refuses the source.
    """
    source, artefact = root / SOURCE, root / ARTEFACT
    origin = {
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "compiler": f"vyper {importlib.metadata.version('vyper')}",
    }
    if artefact.exists():
        written = json.loads(artefact.read_text())
        if origin.items() <= written.items():
            return False
    vyper = Path(sys.executable).with_name("vyper")
    # Run inside the source's folder: no absolute path can reach the output, so it is the same on every machine.
    output = subprocess.run(
        [vyper, "-f", "abi,bytecode", source.name], cwd=source.parent, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    abi, bytecode = output.splitlines()
    whole = {"abi": json.loads(abi), "bytecode": bytecode, **origin}
    partial = artefact.with_suffix(".json.partial")
    partial.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
    partial.replace(artefact)
    return True


if __name__ == "__main__":
    fresh = compile_executor(Path(__file__).parent)
    # Whoever makes the venv on the way to something else may read that from standard output.
    sys.stderr.write(f"{ARTEFACT}: {'compiled' if fresh else 'up to date'}\n")
