"""Bring one version of a component to its place, whole and verified; an Ansible module."""

from __future__ import annotations

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.releases.errors import ReleaseError
from ansible.module_utils.releases.fetch import Network
from ansible.module_utils.releases.stage import Wanted, stage
from ansible.module_utils.releases.store import Store, record
from ansible.module_utils.releases.venv import python_version

DOCUMENTATION = r"""
module: release_stage
short_description: One version of a component stands complete below its root
description:
  - Fetches, verifies, unpacks beside the other versions and renames into place. Does nothing when the version stands complete.
  - What fails leaves nothing but an interrupted download, which the next run continues, and one line in the log of deployments.
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
    description: The version.
    type: str
    required: true
  kind:
    description: How it is published.
    type: str
    choices: [tar, deb, oci, wheelhouse, directory]
    required: true
  files:
    description: Path in the artefact to path below the version's directory. For a wheelhouse, path in the environment to a symlink's name.
    type: dict
    default: {}
  urls:
    description: Addresses of the artefact, asked in this order.
    type: list
    elements: str
    default: []
  checksum_urls:
    description: Addresses of upstream's checksum file, asked in this order.
    type: list
    elements: str
    default: []
  sha256:
    description: Pinned sha256 (64 hex digits) of the artefact, or digest of the image.
    type: str
    default: ""
  repositories:
    description: Image repositories without tag, asked in this order.
    type: list
    elements: str
    default: []
  architecture:
    description: The machine in the registry's word.
    type: str
    default: ""
  transferred:
    description: Tar archive on the host, brought from the controller, of a wheelhouse or directory.
    type: path
  proxy:
    description: Proxy's URL.
    type: str
    default: ""
  no_proxy:
    description: Host names and domains that are reached without the proxy.
    type: list
    elements: str
    default: []
  timeout_seconds:
    description: Seconds without a byte after which a connection is dead.
    type: int
    default: 30
  attempts:
    description: Connections to each address.
    type: int
    default: 5
  spare_mib:
    description: MiB that must stay free.
    type: int
    default: 64
  log:
    description: The host's log of deployments.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Erigon 3.8.1 stands complete
  release_stage:
    root: /opt
    component: erigon
    version: 3.8.1
    kind: tar
    urls: [https://mirror.example.com/erigon_v3.8.1_linux_amd64.tar.gz]
    checksum_urls: [https://mirror.example.com/erigon_v3.8.1_checksums.txt]
    files: {erigon_v3.8.1_linux_amd64/erigon: bin/erigon}
    log: /var/log/deployments.jsonl
"""

RETURN = r"""
marker:
  description: What was installed, from where, and what proved it.
  type: dict
  returned: when it was installed in this run
"""


def main() -> None:
    """Run as Ansible runs a module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "component": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "kind": {"type": "str", "required": True, "choices": ["tar", "deb", "oci", "wheelhouse", "directory"]},
            "files": {"type": "dict", "default": {}},
            "urls": {"type": "list", "elements": "str", "default": []},
            "checksum_urls": {"type": "list", "elements": "str", "default": []},
            "sha256": {"type": "str", "default": ""},
            "repositories": {"type": "list", "elements": "str", "default": []},
            "architecture": {"type": "str", "default": ""},
            "transferred": {"type": "path"},
            "proxy": {"type": "str", "default": ""},
            "no_proxy": {"type": "list", "elements": "str", "default": []},
            "timeout_seconds": {"type": "int", "default": 30},
            "attempts": {"type": "int", "default": 5},
            "spare_mib": {"type": "int", "default": 64},
            "log": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    store = Store(Path(given["root"]), given["component"])
    version = given["version"]
    pin = given["sha256"] if given["kind"] in {"tar", "deb", "oci"} else ""
    python = python_version() if given["kind"] == "wheelhouse" else ""
    # What services of other users must read is not for the login's umask to decide.
    os.umask(0o022)
    reason = store.incomplete_because(version, pin, python)
    if not reason:
        module.exit_json(changed=False)
    source = (given["urls"] + given["repositories"] + ["the controller"])[0]
    diff = {"before": "", "after": f"{store.path(version)} from {source}\n", "before_header": reason}
    if module.check_mode:
        module.exit_json(changed=True, diff=diff)
    wanted = Wanted(
        component=given["component"],
        version=version,
        kind=given["kind"],
        files=given["files"],
        urls=given["urls"],
        checksum_urls=given["checksum_urls"],
        sha256=given["sha256"],
        repositories=given["repositories"],
        architecture=given["architecture"],
        transferred=given["transferred"] or "",
        spare_mib=given["spare_mib"],
    )
    network = Network(given["proxy"], tuple(given["no_proxy"]), given["timeout_seconds"], given["attempts"])
    try:
        with store.locked():
            marker = stage(store, wanted, network)
    except (ReleaseError, OSError) as error:
        sentence = f"{wanted.name} cannot be installed: {str(error).rstrip('.')}."
        entry = {"component": wanted.component, "from": store.link("current"), "to": version}
        record(Path(given["log"]), {**entry, "result": "failed", "reason": sentence})
        module.fail_json(msg=sentence)
    module.exit_json(changed=True, diff=diff, marker=marker)


if __name__ == "__main__":
    main()
