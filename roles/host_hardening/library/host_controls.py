"""Hold a host to controls, keep what was there before, and give it back when a control is switched off; an Ansible module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils import host_targets as targets
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_controls
short_description: Hold a host to controls, and give back what was there when one is switched off
description:
  - A control is a name and what it wants of the host. Whatever stands in its way is written to the record before it is changed, and given
    back as soon as the control no longer wants it. Check mode says what differs and changes nothing.
author: mev-infrastructure maintainers
options:
  controls:
    description: >-
      Each C({name, on, files, settings, sysctls, modes, units, mounts, proofs, packages,
      unwanted_packages, after}); all but the name and C(on) may be missing.
      files are C({path, content, mode, validate}), settings C({path, key, value}) of files with one key and value a line, sysctls
      C({key: value}) with C(*) for each interface, modes C({path, mode, owner, group}) of what is there (the path may be a pattern), units C({name, state}) with the states
      enabled (and running), disabled (and stopped) and masked, mounts C({path, options}) of directories that are bound to themselves,
      proofs C({path, has, lacks, otherwise}) of text that a file has to have, or (if given) must not, once the control holds and that is not written by it,
      after commands that make a change known.
    type: list
    elements: dict
    required: true
  record:
    description: The file on the host that keeps what was there.
    type: path
    required: true
  sysctl_path:
    description: The file from which the kernel is given the controls' values at boot; none if empty.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: The host is held to its controls
  host_controls:
    controls:
      - name: login_banner
        on: true
        files: [{path: /etc/issue, content: "Authorised use only.\n", mode: "0644"}]
    record: /var/lib/host_hardening/record.json
"""

RETURN = r"""
controls:
  description: Each control's C(name), whether it is on, and in C(differs) what was not as it wants it, before this run.
  type: list
  elements: dict
  returned: always
missing:
  description: Packages that controls want and the host lacks; installing them is the caller's work.
  type: list
  elements: str
  returned: always
unwanted:
  description: Packages that controls do not want and the host has; removing them is the caller's work.
  type: list
  elements: str
  returned: always
"""


def is_gone(key: str) -> bool:
    """Whether a record is of a mode or a kernel's value that is there no longer: its package or its interface went, and there is nothing to give back."""
    kind, _, where = key.partition(":")
    return (kind == "mode" and not Path(where).exists()) or (
        kind == "sysctl" and not targets.sysctl_file(where).exists()
    )


class Host:
    """The host with its record of what was there before; in check mode it only looks."""

    def __init__(self, record: Path, check: bool) -> None:
        self.path = record
        self.check = check
        self.record: dict[str, dict[str, Any]] = json.loads(targets.text_of(record) or "{}")
        self.differences: list[dict[str, str]] = []
        self.packages = targets.installed()
        self.missing: list[str] = []
        self.unwanted: list[str] = []

    def hold(self, control: dict[str, Any]) -> list[str]:
        """Have a control as it is wanted; give what was not."""
        name = str(control["name"])
        found: list[Any]
        wrong: list[str]
        found, wrong = targets.targets_of(control) if control["on"] else ([], [])
        known = self.record.get(name, {})
        wanted = {f"{target.kind}:{target.key}" for target in found}
        given_back = [key for key in known if key not in wanted and not is_gone(key)]
        wrong += [
            f"{key.partition(':')[2]} is still as this control made it, which is not wanted any more"
            for key in given_back
        ]
        changing = []
        # Installing them is the role's work, before this; where they are missing, this only looks.
        for package in self.wrong_packages(control):
            wrong.append(f"the package {package} is {'' if package in self.packages else 'not '}installed")
        for target in found:
            now = targets.KINDS[target.kind][0](target.key)
            if not targets.is_held(target, now):
                wrong.append(f"{target.key} differs")
                self.differ(target.key, now, target.wanted)
                targets.validated(target)
                changing.append((target, now))
        for key in given_back:
            kind, _, where = key.partition(":")
            self.differ(where, targets.KINDS[kind][0](where), known[key])
        if (changing or given_back) and not self.check:
            self.change(name, changing, given_back)
            for command in control.get("after") or []:
                targets.need(*command)
        return wrong

    def wrong_packages(self, control: dict[str, Any]) -> list[str]:
        """Give the packages that a control misses or does not want, and keep them for the role."""
        if not control["on"]:
            return []
        missing = [name for name in control.get("packages") or [] if name not in self.packages]
        unwanted = [name for name in control.get("unwanted_packages") or [] if name in self.packages]
        for name in missing:
            self.differ(f"package {name}", None, "installed")
        for name in unwanted:
            self.differ(f"package {name}", "installed", None)
        self.missing += missing
        self.unwanted += unwanted
        return missing + unwanted

    def change(self, name: str, changing: list[tuple[Any, Any]], given_back: list[str]) -> None:
        """Write down what is there, then give back and change."""
        known = self.record.setdefault(name, {})
        for target, now in changing:
            known.setdefault(f"{target.kind}:{target.key}", now)
        self.save()
        # What runs is stopped before the file that says how goes.
        for key in sorted(given_back, key=lambda key: not key.startswith("unit:")):
            kind, _, where = key.partition(":")
            before = known[key] if kind != "unit" or known[key] else {"boot": "disabled", "active": False}
            targets.KINDS[kind][1](where, before)
            del known[key]
        stale = any(key.startswith(f"file:{targets.UNITS}/") for key in given_back)
        for target, _ in changing:
            if target.kind == "unit" and (stale or any(other.key.startswith(targets.UNITS) for other, _ in changing)):
                targets.need("systemctl", "daemon-reload")
                stale = False
            targets.KINDS[target.kind][1](target.key, target.wanted)
        if stale:
            targets.need("systemctl", "daemon-reload")
        if not known:
            del self.record[name]
        self.save()

    def differ(self, what: str, before: object, after: object) -> None:
        """Keep a difference for the run's output."""
        self.differences.append(
            {
                "before_header": what,
                "after_header": what,
                "before": targets.shown(before),
                "after": targets.shown(after),
            }
        )

    def save(self) -> None:
        """Write the record, for root alone."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        targets.replace(self.path, json.dumps(self.record, indent=1, sort_keys=True), 0o600)


def sysctl_line(key: str, value: object) -> str:
    """Give a line of the file; a key that this kernel lacks may be missing at the next boot too. Judges do not read lines that begin with a dash.

    A star for interfaces is systemd's as well, also for those that come later.
    """
    return f"{'' if '*' in key or targets.sysctl_file(key).exists() else '-'}{key} = {value}"


def with_sysctl_file(controls: list[dict[str, Any]], path: str) -> Iterator[dict[str, Any]]:
    """Give the controls, and after them one for the file from which the kernel gets their values at boot."""
    yield from controls
    if path:
        lines = [
            f"# {control['name']}\n"
            + "".join(f"{sysctl_line(key, value)}\n" for key, value in control["sysctls"].items())
            for control in controls
            if control["on"] and control.get("sysctls")
        ]
        content = "# Ansible managed\n" + "".join(lines)
        yield {"name": "sysctl_file", "on": bool(lines), "files": [{"path": path, "content": content}]}


def main() -> None:
    """Run as Ansible runs a module."""
    module = AnsibleModule(
        argument_spec={
            "controls": {"type": "list", "elements": "dict", "required": True},
            "record": {"type": "path", "required": True},
            "sysctl_path": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    host = Host(Path(module.params["record"]), module.check_mode)
    found: list[dict[str, Any]] = []
    for control in with_sysctl_file(module.params["controls"], module.params["sysctl_path"]):
        try:
            wrong = host.hold(control)
        except (targets.ControlError, OSError) as error:
            module.fail_json(msg=f"The control {control['name']} cannot be held: {error}.", controls=found)
        found.append({"name": control["name"], "on": bool(control["on"]), "differs": wrong})
    module.exit_json(
        changed=bool(host.differences),
        diff=host.differences,
        controls=found,
        missing=host.missing,
        unwanted=host.unwanted,
    )


if __name__ == "__main__":
    main()
