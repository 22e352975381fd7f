"""The controller's part of the module service_paths: it reads what comes from here, and lets nothing of it be shown."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

PASSED_ON = ("path", "owner", "group", "mode", "content", "random_bytes", "validate")


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible runs in the module's place; a file may have a `source`, its path on the controller, a vault perhaps."""

    _VALID_ARGS = frozenset({"parents", "directories", "files"})
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Have the module bring everything there."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = {**self._task.args, "files": [self._passed_on(file) for file in self._task.args.get("files", [])]}
        done = self._execute_module(module_name="service_paths", module_args=arguments, task_vars=task_vars or {})
        # With -vvv it would be shown, and with it each file's text.
        done.pop("invocation", None)
        return {**result, **done}

    def _passed_on(self, file: Mapping[str, Any]) -> dict[str, Any]:
        known = {name: file[name] for name in PASSED_ON if name in file}
        return {**known, "data": base64.b64encode(self._read(file)).decode()} if "source" in file else known

    def _read(self, file: Mapping[str, Any]) -> bytes:
        try:
            return Path(self._loader.get_real_file(file["source"], decrypt=True)).read_bytes()
        except OSError as error:
            raise AnsibleActionFail(
                f"The source {file['source']} of {file['path']} cannot be read: {error.strerror}."
            ) from None
        finally:
            self._loader.cleanup_all_tmp_files()
