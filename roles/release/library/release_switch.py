"""Make one complete version of a component the current one; an Ansible module."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.releases.errors import ReleaseError
from ansible.module_utils.releases.store import Store, Unproven, record

DOCUMENTATION = r"""
module: release_switch
short_description: One version of a component is the current one
description:
  - Switches the symlinks C(previous) and C(current), each in one step, and removes the oldest versions.
  - Writes one line to the host's log of deployments when asked for a result.
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
    description: The version; empty for none, which removes C(current).
    type: str
    required: true
  previous:
    description: The version that C(previous) leads to afterwards; the one that is left if not given.
    type: str
  proven:
    description: Whether the version has been seen healthy, or needs no such proof.
    type: bool
    default: true
  before:
    description: The version to go back to while the version is not proven.
    type: str
    default: ""
  keep:
    description: Versions kept; 0 removes none.
    type: int
    default: 0
  result:
    description: Result for the log of deployments; nothing is logged if empty.
    type: str
    default: ""
  reason:
    description: Its reason.
    type: str
    default: ""
  logged_from:
    description: The version that the log names as the one before; the current one if not given.
    type: str
  log:
    description: The host's log of deployments.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Erigon 3.8.1 is the current one
  release_switch:
    root: /opt
    component: erigon
    version: 3.8.1
    keep: 3
    log: /var/log/deployments.jsonl
"""

RETURN = r"""
removed:
  description: Versions that were removed.
  type: list
  elements: str
  returned: always
"""


def plan(store: Store, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Say how the component stands and how it shall stand, in the same words."""
    current, previous = store.link("current"), store.link("previous")
    version = given["version"]
    after_previous = (
        given["previous"] if given["previous"] is not None else (previous if version == current else current)
    )
    keep = given["keep"]
    removed = store.superfluous(keep, version, after_previous) if keep else []
    before = {"current": current, "previous": previous, "proven": store.unproven() is None, "removed": []}
    return before, {"current": version, "previous": after_previous, "proven": given["proven"], "removed": removed}


def switch(store: Store, after: dict[str, Any], before_version: str) -> None:
    """Carry the plan out, so that a crash at any point leaves a version that can run."""
    version = after["current"]
    if version and not store.marker(version):
        message = f"{store.component} {version} does not stand complete in {store.path(version)}, so nothing can be switched to it"
        raise ReleaseError(message)
    if not after["proven"]:
        store.set_unproven(Unproven(version, before_version))
    store.point("previous", after["previous"])
    store.point("current", version)
    if after["proven"]:
        store.set_unproven(None)
    for old in after["removed"]:
        store.remove(old)


def main() -> None:
    """Run as Ansible runs a module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "component": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "previous": {"type": "str"},
            "proven": {"type": "bool", "default": True},
            "before": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 0},
            "result": {"type": "str", "default": ""},
            "reason": {"type": "str", "default": ""},
            "logged_from": {"type": "str"},
            "log": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    os.umask(0o022)
    store = Store(Path(given["root"]), given["component"])
    before, after = plan(store, given)
    changed = before != after
    diff = {
        "before": "".join(f"{name}: {value}\n" for name, value in before.items()),
        "after": "".join(f"{name}: {value}\n" for name, value in after.items()),
        "before_header": str(store.base),
        "after_header": str(store.base),
    }
    if not module.check_mode:
        try:
            if changed:
                with store.locked():
                    switch(store, after, given["before"])
        except (ReleaseError, OSError) as error:
            module.fail_json(msg=f"{str(error).rstrip('.')}.")
        if given["result"]:
            left = given["logged_from"] if given["logged_from"] is not None else before["current"]
            entry = {"component": given["component"], "from": left, "to": given["version"]}
            record(Path(given["log"]), {**entry, "result": given["result"], "reason": given["reason"]})
    module.exit_json(changed=changed, diff=diff, removed=after["removed"])


if __name__ == "__main__":
    main()
