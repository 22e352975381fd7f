"""Have the directories, the secrets and the files of a service on its host, all in one call; an Ansible module."""

from __future__ import annotations

import base64
import contextlib
import grp
import os
import pwd
import secrets
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: service_paths
short_description: The directories, secrets and files of a service, in one call
description:
  - >-
    Makes what is missing and gives the rest its owner, group, mode and content. Directories come first, outer ones before inner ones; then files, in
    their order. A file takes the place of the one before at a stroke, and is nowhere to be seen with another owner or mode.
  - A link is followed where it is root's: to a directory, and to a secret that is there. A file takes a link's place.
  - Check mode changes nothing and says the same; it validates nothing. The difference of each path is one entry of C(diff).
  - The action of the same name reads files of the controller and decrypts vaults.
author: mev-infrastructure maintainers
options:
  parents:
    description: Paths of missing directories above those of C(directories), which are root's and let everybody pass.
    type: list
    elements: path
    default: []
  directories:
    description: Directories (path, owner, group, mode).
    type: list
    elements: dict
    default: []
  files:
    description: Files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it is.
        type: path
        required: true
      owner:
        description: Who owns it.
        type: str
        required: true
      group:
        description: Its group.
        type: str
        required: true
      mode:
        description: Octal mode.
        type: str
        required: true
      content:
        description: The whole text; its difference is shown.
        type: str
      data:
        description: In place of C(content), the whole file in base64, of which nothing is shown.
        type: str
      random_bytes:
        description: In place of C(content), a secret of so many random bytes, in hex. What is there is never overwritten.
        type: int
      validate:
        description: A command that must accept the new file, named C(%s) in it, before it takes the old one's place.
        type: str
        default: ""
"""

EXAMPLES = r"""
- name: A service has its configuration and its secret
  service_paths:
    directories:
      - {path: /data/node, owner: node, group: node, mode: "0750"}
    files:
      - {path: /data/node/jwt.hex, random_bytes: 32, owner: root, group: node, mode: "0640"}
      - {path: /etc/node.toml, content: "a = 1\n", owner: root, group: node, mode: "0640"}
"""

RETURN = r"""
paths:
  description: Paths that changed, or would.
  type: list
  elements: str
  returned: always
"""

# As Ansible's own modules: more is no difference that anybody reads.
MOST_DIFF_BYTES = 104448
Difference = dict[str, Any]


class PathError(Exception):
    """A path cannot be as wanted; the message is one sentence."""

    def __init__(self, message: str, **more: object) -> None:
        super().__init__(message)
        self.more = more


def has_account(find: Callable[[str], object], name: str) -> bool:
    """Say whether the host knows a user or group by its name."""
    try:
        find(name)
    except KeyError:
        return False
    return True


def held(module: AnsibleModule, wanted: dict[str, Any], path: str, difference: Difference | None = None) -> bool:
    """Give a path its owner, group and mode; say whether it had others."""
    owner, group = wanted["owner"], wanted["group"]
    if module.check_mode:
        # One that is still to be made cannot be looked up.
        owner = owner if has_account(pwd.getpwnam, owner) else None
        group = group if has_account(grp.getgrnam, group) else None
    asked = {"path": path, "owner": owner, "group": group, "mode": wanted["mode"]}
    return bool(module.set_fs_attributes_if_different(module.load_file_common_arguments(asked), False, difference))


def followed(path: Path) -> Path:
    """Give where a link leads. One that a service made is not followed: root would hand over to it whatever it leads to."""
    if not path.is_symlink():
        return path
    owner = path.lstat().st_uid
    if owner not in {0, os.geteuid()}:
        raise PathError(
            f"{path} is a link that the account {owner} made, and only root's are followed; move it away, or make it root's (chown -h root {path})."
        )
    return path.resolve()


def directory(module: AnsibleModule, wanted: dict[str, Any]) -> Difference | None:
    """Have a directory; give what changed, None where nothing did."""
    path = followed(Path(wanted["path"]))
    difference: Difference = {"before": {"path": str(path)}, "after": {"path": str(path)}}
    is_new = not path.is_dir()
    if is_new:
        if os.path.lexists(path):
            raise PathError(f"{path} is there and is no directory; move it away.")
        difference["before"]["state"], difference["after"]["state"] = "absent", "directory"
        if not module.check_mode:
            path.mkdir(0o700)
    changed = held(module, wanted, str(path), difference)
    return difference if is_new or changed else None


@contextlib.contextmanager
def new_file(module: AnsibleModule, wanted: dict[str, Any], content: bytes) -> Iterator[str]:
    """Have a file of another name beside the wanted one, which has all that it is to have; gone afterwards, if it is still there."""
    handle, path = tempfile.mkstemp(prefix=".ansible_tmp", dir=Path(wanted["path"]).parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        held(module, wanted, path)
        yield path
    finally:
        Path(path).unlink(missing_ok=True)


def secret(module: AnsibleModule, wanted: dict[str, Any]) -> Difference | None:
    """Have a secret, whatever it holds; give what changed without any of it."""
    path = Path(wanted["path"])
    difference: Difference = {"before": {"path": str(path)}, "after": {"path": str(path)}}
    if path.exists():
        return difference if held(module, wanted, str(followed(path)), difference) else None
    difference["before"]["state"], difference["after"]["state"] = "absent", "file"
    if not module.check_mode:
        value = f"{secrets.token_hex(wanted['random_bytes'])}\n".encode()
        with new_file(module, wanted, value) as made:
            # Never in the place of one that came meanwhile.
            os.link(made, path)
    return difference


def readable(content: bytes | None) -> str:
    """Give a file's text for a difference."""
    if content is None:
        return ""
    if len(content) > MOST_DIFF_BYTES:
        return f"({len(content)} bytes)\n"
    return content.decode("utf-8", "replace")


def file(module: AnsibleModule, wanted: dict[str, Any]) -> Difference | None:
    """Have a file with its content; give what changed."""
    path = Path(wanted["path"])
    is_shown = wanted["data"] is None
    content = wanted["content"].encode() if is_shown else base64.b64decode(wanted["data"])
    if path.is_dir():
        raise PathError(f"{path} is there and is a directory; move it away.")
    before = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    if before == content:
        difference: Difference = {"before": {"path": str(path)}, "after": {"path": str(path)}}
        return difference if held(module, wanted, str(path), difference) else None
    if not module.check_mode:
        with new_file(module, wanted, content) as made:
            if wanted["validate"]:
                accept(module, wanted, made)
            Path(made).replace(path)
    if not is_shown:
        return {"before": {"path": str(path)}, "after": {"path": str(path)}}
    return {
        "before_header": str(path),
        "after_header": str(path),
        "before": readable(before),
        "after": readable(content),
    }


def accept(module: AnsibleModule, wanted: dict[str, Any], made: str) -> None:
    """Have the file's reader accept it."""
    code, output, errors = module.run_command(shlex.split(wanted["validate"].replace("%s", shlex.quote(made))))
    if code:
        said = " ".join((errors or output).replace(made, wanted["path"]).split())
        raise PathError(
            f"{wanted['path']} is not what its reader takes ({wanted['validate']} ends with {code}): {said}",
            rc=code,
            stdout=output,
            stderr=errors,
        )


def bring(module: AnsibleModule, given: dict[str, Any]) -> Iterator[tuple[str, Difference]]:
    """Bring everything there, one after the other; give each path that changed, and how."""
    parents = [{"path": path, "owner": "root", "group": "root", "mode": "0755"} for path in given["parents"]]
    steps = [(directory, each) for each in sorted([*parents, *given["directories"]], key=lambda one: Path(one["path"]))]
    steps += [(file if each["random_bytes"] is None else secret, each) for each in given["files"]]
    for have, wanted in steps:
        try:
            difference = have(module, wanted)
        except OSError as error:
            raise PathError(f"{wanted['path']} cannot be brought there: {error.strerror}.") from error
        if difference is not None:
            yield wanted["path"], difference


def main() -> None:
    """Run as Ansible runs a module."""
    text = {"type": "str", "required": True}
    attributes = {"path": {"type": "path", "required": True}, "owner": text, "group": text, "mode": text}
    module = AnsibleModule(
        argument_spec={
            "parents": {"type": "list", "elements": "path", "default": []},
            "directories": {"type": "list", "elements": "dict", "default": [], "options": attributes},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    **attributes,
                    "content": {"type": "str"},
                    "data": {"type": "str", "no_log": True},
                    "random_bytes": {"type": "int"},
                    "validate": {"type": "str", "default": ""},
                },
                "required_one_of": [("content", "data", "random_bytes")],
                "mutually_exclusive": [("content", "data", "random_bytes")],
            },
        },
        supports_check_mode=True,
        # It would write all that it is given to the host's journal.
        no_log=True,
    )
    done: dict[str, Difference] = {}
    try:
        # One by one: what was done before a failure is known as well.
        done.update(bring(module, module.params))
    except PathError as error:
        module.fail_json(msg=str(error), changed=bool(done), paths=list(done), **error.more)
    shown = {"diff": list(done.values())} if module._diff else {}  # noqa: SLF001 - how modules of Ansible's own know
    module.exit_json(changed=bool(done), paths=list(done), **shown)


if __name__ == "__main__":
    main()
