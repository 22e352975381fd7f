"""What is wanted of a component, held against what stands on its host; an action for Ansible that asks by the module release_state."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

ASKED = ("component", "version", "kind", "sha256")


class ActionModule(ActionBase):  # type: ignore[misc]
    """What Ansible runs in the module's place."""

    _VALID_ARGS = frozenset({"plan", "root"})
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse a plan that cannot be carried out with AnsibleActionFail; else give what the module says, and the `plan`."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        plan = self._task.args["plan"]
        if plan["problems"]:
            raise AnsibleActionFail(" ".join(plan["problems"]))
        facts = self._execute_module(
            module_name="release_state",
            module_args={"root": self._task.args["root"], **{name: plan[name] for name in ASKED}},
            task_vars=task_vars or {},
        )
        return {**result, **facts, "plan": plan}
