"""Programs that fill the file system, and the end that is made of them before it is full."""

from __future__ import annotations

import subprocess
import time

from snapshot import space
from snapshot.plan import Plan
from snapshot.progress import Progress


def wait(plan: Plan, running: list[subprocess.Popen[bytes]], progress: Progress) -> bool:
    """Until all programs have ended; true if they were ended because the file system filled up."""
    before = space.free(plan.staging)
    while any(run.poll() is None for run in running):
        time.sleep(0.1)
        there = space.free(plan.staging)
        progress.at(max(before - there, 0))
        if there < plan.spare // 2:
            for run in running:
                run.kill()
            for run in running:
                run.wait()
            return True
    return False
