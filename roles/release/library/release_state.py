"""Read which versions of a component a host has; an Ansible module."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.releases.store import Store
from ansible.module_utils.releases.venv import python_version

DOCUMENTATION = r"""
module: release_state
short_description: Which versions of a component a host has
description:
  - Reads, and changes nothing; check mode makes no difference.
author: mev-infrastructure
options:
  root:
    description: Directory that holds the components.
    type: path
    required: true
  component:
    description: The component's name.
    type: str
    required: true
  version:
    description: The version that is asked about; empty to ask about none.
    type: str
    default: ""
  kind:
    description: How the version is published.
    type: str
    default: ""
  sha256:
    description: Its pinned sha256 (64 hex digits); empty if it has no pin.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: The host's versions are known
  release_state:
    root: /opt
    component: erigon
    version: 3.8.1
"""

RETURN = r"""
current:
  description: The version that is switched to; empty if none is.
  type: str
  returned: always
previous:
  description: The version before; empty if there is none.
  type: str
  returned: always
versions:
  description: Complete versions, the newest installation first.
  type: list
  elements: str
  returned: always
complete:
  description: Whether the version that was asked about stands complete.
  type: bool
  returned: always
reason:
  description: Why it does not.
  type: str
  returned: always
unproven:
  description: Whether the current version was switched to without ever having been seen healthy.
  type: bool
  returned: always
before:
  description: The version that ran before the current one was switched to, while that one is unproven; else the current one.
  type: str
  returned: always
missing_packages:
  description: Packages that installing the kind needs and the host lacks.
  type: list
  elements: str
  returned: always
"""

# Programs that unpack a kind, and the Debian packages that bring them.
PROGRAMS = {"oci": {"skopeo": "skopeo", "zstd": "zstd"}, "tar": {"zstd": "zstd"}}


def missing_packages(kind: str) -> list[str]:
    """Name what the host lacks to install a kind."""
    missing = [package for program, package in PROGRAMS.get(kind, {}).items() if not shutil.which(program)]
    if kind == "wheelhouse" and importlib.util.find_spec("ensurepip") is None:
        missing.append("python3-venv")
    return missing


def main() -> None:
    """Run as Ansible runs a module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "component": {"type": "str", "required": True},
            "version": {"type": "str", "default": ""},
            "kind": {"type": "str", "default": ""},
            "sha256": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    store = Store(Path(given["root"]), given["component"])
    version = given["version"]
    python = python_version() if given["kind"] == "wheelhouse" else ""
    reason = store.incomplete_because(version, given["sha256"], python) if version else "no version was asked about"
    current = store.link("current")
    unproven = store.unproven()
    awaits = unproven is not None and unproven.version == current
    module.exit_json(
        changed=False,
        current=current,
        previous=store.link("previous"),
        versions=store.versions(),
        complete=not reason,
        reason=reason,
        unproven=awaits,
        before=unproven.before if unproven is not None and awaits else current,
        missing_packages=missing_packages(given["kind"]) if reason else [],
    )


if __name__ == "__main__":
    main()
