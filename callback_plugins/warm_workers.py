"""Load filters and tests once, before Ansible forks a worker process for each task, and not in each worker anew."""

from __future__ import annotations

from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import filter_loader, test_loader

DOCUMENTATION = """
name: warm_workers
type: aggregate
short_description: load filters and tests before workers are forked
description:
  - Each task runs in a process of its own, forked from the one that reads the playbooks. What that one has loaded, a worker need
    not load again. It prints nothing.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Prints nothing; it is a callback because those are the first plugins that Ansible loads."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "warm_workers"

    def v2_playbook_on_play_start(self, _play: object) -> None:
        """Load what a worker would look up."""
        for loader in (filter_loader, test_loader):
            for _ in loader.all():
                pass
