"""Say what a host can do for WireGuard and have its key pair there; an Ansible module."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: wireguard_host
short_description: Say what a host can do for WireGuard and have its key pair there
description:
  - The private key is made on the host by C(wg genkey), with mode 0600, and is never read by this module, returned or shown. What is there
    is never overwritten.
author: mev-infrastructure maintainers
options:
  key:
    description: File of the private key. Not looked at if not set.
    type: path
  config:
    description: The tunnel's present configuration, for the keys of peers that are not in this run.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: The host has a key pair
  wireguard_host:
    key: /etc/fleet-vpn/private.key
    config: /etc/fleet-vpn/vpn.json
"""

RETURN = r"""
kernel:
  description: Whether the host's kernel has WireGuard; asked in a network name space of its own.
  type: bool
  returned: success
public_key:
  description: The public key, base64; empty in check mode where there is none yet.
  type: str
  returned: success
missing:
  description: Debian packages that the host lacks for it.
  type: list
  elements: str
  returned: success
known:
  description: Public keys by the names of those whom the tunnel knows already.
  type: dict
  returned: success
"""


# The program of each package that is looked for.
PROGRAMS = {"iproute2": "ip", "wireguard-tools": "wg", "wireguard-go": "wireguard-go"}


def known(path: Path) -> dict[str, str]:
    """Give the public keys that the present configuration holds, by name."""
    try:
        return {peer["name"]: peer["public_key"] for peer in json.loads(path.read_bytes())["peers"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def kernel_has_it(module: AnsibleModule) -> bool:
    """Try it where nothing is left of it."""
    if not shutil.which("ip"):
        return False
    code, _, _ = module.run_command(["unshare", "--net", "ip", "link", "add", "dev", "wgprobe", "type", "wireguard"])
    return bool(code == 0)


def make(module: AnsibleModule, path: Path) -> None:
    """Make a private key; it goes from wg to the file and nowhere else."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}")
    new.unlink(missing_ok=True)
    code, _, words = module.run_command(
        ["sh", "-c", 'umask 077 && wg genkey > "$1"', "sh", str(new)], environ_update={"LC_ALL": "C"}
    )
    if code or not new.stat().st_size:
        new.unlink(missing_ok=True)
        module.fail_json(msg=f"wg cannot make a key: {words.strip()}.")
    new.replace(path)


def main() -> None:
    """Run as Ansible's module."""
    module = AnsibleModule(
        argument_spec={"key": {"type": "path", "no_log": False}, "config": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    has_it = kernel_has_it(module)
    needed = [package for package in PROGRAMS if package != "wireguard-go" or not has_it]
    result: dict[str, Any] = {
        "changed": False,
        "kernel": has_it,
        "missing": [package for package in needed if not shutil.which(PROGRAMS[package])],
        "known": known(Path(module.params["config"])),
        "public_key": "",
    }
    if module.check_mode and result["missing"] and not module.params["key"]:
        result["changed"] = True
        result["diff"] = {"before": "", "after": "".join(f"package {name}\n" for name in result["missing"])}
    if module.params["key"]:
        path = Path(module.params["key"])
        if not path.exists():
            result["changed"] = True
            result["diff"] = {"before": "", "after": f"{path}: a private key, made on the host\n"}
            if not module.check_mode:
                make(module, path)
        elif (path.stat().st_mode & 0o777, path.stat().st_uid) != (0o600, 0):
            result["changed"] = True
            result["diff"] = {"before": f"{path}: others may read it\n", "after": f"{path}: root's, 0600\n"}
            if not module.check_mode:
                path.chmod(0o600)
                os.chown(path, 0, 0)
        if path.exists() and shutil.which("wg"):
            code, words, _ = module.run_command(["sh", "-c", 'wg pubkey < "$1"', "sh", str(path)])
            if code:
                module.fail_json(
                    msg=f"{path} holds no private key; put the right one there, or remove it for a new one."
                )
            result["public_key"] = words.strip()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
