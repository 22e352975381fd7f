"""The client brings the data itself: its own download, run until it ends well. What it made is judged, not believed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

from snapshot import forms, space
from snapshot.errors import SnapshotError
from snapshot.fetch import pause_after
from snapshot.plan import Plan
from snapshot.programs import wait
from snapshot.progress import Progress
from snapshot.unpack import check_harmless, check_layout


def download(plan: Plan) -> None:
    """Run the client's download into the tree beside the live directory. Raises SnapshotError; what has arrived stays for the next run."""
    tree, note = plan.unpacked_path, plan.tree_note
    if not (tree.is_dir() and note.is_file() and note.read_text() == plan.identity):
        shutil.rmtree(tree, ignore_errors=True)
        # It belongs to this download from its first byte on, however that ends.
        note.write_text(plan.identity)
        tree.mkdir(mode=0o700)
    space.check_tree_room(plan)
    command = [word.replace(forms.DATA, str(tree)) for word in plan.command]
    progress = Progress("download", plan.unpacked)
    status = 0
    for attempt in range(plan.attempts):
        progress.say(" ".join(command))
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr) as running:
            if wait(plan, [running], progress):
                raise SnapshotError(
                    f"the file system of {plan.staging} fills up while {command[0]} downloads: the data is larger than the {space.gib(plan.unpacked)}"
                    " of its entry, or something else writes there."
                )
        status = running.returncode
        if status == 0:
            try:
                check_harmless(tree)
                check_layout(plan)
            except SnapshotError:
                shutil.rmtree(tree, ignore_errors=True)
                raise
            return
        if attempt + 1 < plan.attempts:
            pause = pause_after(attempt)
            progress.say(f"exit status {status}; again in {pause} s")
            time.sleep(pause)
    raise SnapshotError(
        f"{command[0]} did not end its download in {plan.attempts} attempts; the last exit status was {status}."
    )
