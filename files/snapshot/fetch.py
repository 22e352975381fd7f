"""Every part on disk with the checksum that it must have. aria2c downloads; it goes on where it was cut, in this run or a later one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from snapshot import space
from snapshot.errors import SnapshotError
from snapshot.plan import Part, Plan
from snapshot.progress import Progress

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
CHUNK_BYTES = 1 << 22
TIMEOUT_SECONDS = 30
LONGEST_PAUSE_SECONDS = 60


def fetch(plan: Plan) -> None:
    """Download and verify what is missing. Raises SnapshotError; what has arrived stays for the next run."""
    plan.downloaded.mkdir(mode=0o700, exist_ok=True)
    _forget_others(plan)
    sizes = {part.name: part.size or _size(part) for part in plan.parts}
    space.check_room(plan, sizes)
    progress = Progress("download", sum(sizes.values()))
    progress.say(f"{len(plan.parts)} parts, {space.gib(sum(sizes.values()))}")
    reasons: dict[str, str] = {}
    for attempt in range(plan.attempts):
        missing = [part for part in plan.parts if not _verified(plan, part)]
        reasons = {}
        for part in [part for part in missing if _complete(plan, part, sizes[part.name])]:
            reasons.update(_judged(plan, part))
        missing = [part for part in missing if not _verified(plan, part)]
        if not missing:
            return
        ended = _download(plan, missing, sizes, progress)
        for part in missing:
            if _complete(plan, part, sizes[part.name]):
                reasons.update(_judged(plan, part))
            else:
                reasons[part.url] = f"is not whole ({ended})"
        if not reasons:
            return
        if attempt + 1 < plan.attempts:
            pause = pause_after(attempt)
            progress.say(f"{len(reasons)} of {len(plan.parts)} parts again in {pause} s: {_first(reasons)}")
            time.sleep(pause)
    raise SnapshotError(
        f"{len(reasons)} of {len(plan.parts)} parts could not be had in {plan.attempts} attempts: {_first(reasons)}."
    )


def pause_after(attempt: int) -> int:
    """Seconds to wait after the attempt of this number, counted from 0."""
    return min(1 << attempt, LONGEST_PAUSE_SECONDS)


def _first(reasons: dict[str, str]) -> str:
    url, reason = next(iter(reasons.items()))
    return f"{url} {reason}"


def _size(part: Part) -> int:
    request = urllib.request.Request(part.url, method="HEAD")  # noqa: S310 - the plan allows HTTPS only
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310
            length = response.headers.get("Content-Length", "")
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise SnapshotError(f"{part.url} does not tell its size: {error}.") from error
    if not (length.isascii() and length.isdigit() and int(length) > 0):
        raise SnapshotError(f"{part.url} does not tell its size; give it as bytes in the snapshot's entry.")
    return int(length)


def _forget_others(plan: Plan) -> None:
    """Parts of another plan are of no use: each has a note of what it is to become."""
    known = {part.name: part.sha256 for part in plan.parts}
    for note in plan.downloaded.glob("*.part"):
        if known.get(note.stem) != note.read_text():
            _forget(plan, note.stem)
    for part in plan.parts:
        (plan.downloaded / f"{part.name}.part").write_text(part.sha256)


def _forget(plan: Plan, name: str) -> None:
    for ending in ("", ".aria2", ".ok", ".part"):
        (plan.downloaded / f"{name}{ending}").unlink(missing_ok=True)


def _complete(plan: Plan, part: Part, size: int) -> bool:
    file = plan.downloaded / part.name
    return file.is_file() and not file.with_suffix(".aria2").exists() and file.stat().st_size == size


def _stamp(file: Path) -> list[int]:
    held = file.stat()
    return [held.st_size, held.st_mtime_ns, held.st_ino]


def _verified(plan: Plan, part: Part) -> bool:
    """Whether an earlier look found the right checksum, and nobody has written the file since."""
    file = plan.downloaded / part.name
    try:
        return bool(json.loads(file.with_suffix(".ok").read_text()) == _stamp(file))
    except (OSError, ValueError):
        return False


def _judged(plan: Plan, part: Part) -> dict[str, str]:
    """Hold a whole part against its checksum; one that is wrong goes, and its address and the reason are given."""
    file = plan.downloaded / part.name
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != part.sha256:
        _forget(plan, part.name)
        (plan.downloaded / f"{part.name}.part").write_text(part.sha256)
        return {part.url: f"has sha256 {digest.hexdigest()} instead of {part.sha256}"}
    file.with_suffix(".ok").write_text(json.dumps(_stamp(file)))
    return {}


def _download(plan: Plan, missing: list[Part], sizes: dict[str, int], progress: Progress) -> str:
    """Run aria2c once over what is missing; how it ended."""
    for part in missing:
        file = plan.downloaded / part.name
        # Whole or longer and not verified: it is not what is wanted, and aria2c would take it for done.
        if file.exists() and not file.with_suffix(".aria2").exists() and file.stat().st_size >= sizes[part.name]:
            file.unlink()
    command = [
        "aria2c",
        "--no-conf=true",
        "--no-netrc=true",
        f"--ca-certificate={CERTIFICATES}",
        "--min-tls-version=TLSv1.2",
        f"--dir={plan.downloaded}",
        "--input-file=-",
        "--continue=true",
        "--allow-overwrite=false",
        "--auto-file-renaming=false",
        "--always-resume=false",
        "--follow-torrent=false",
        "--follow-metalink=false",
        "--file-allocation=none",
        "--auto-save-interval=5",
        f"--max-concurrent-downloads={plan.downloads}",
        f"--max-connection-per-server={plan.connections}",
        f"--split={plan.connections}",
        "--min-split-size=16M",
        "--max-tries=3",
        "--retry-wait=2",
        f"--connect-timeout={TIMEOUT_SECONDS}",
        f"--timeout={TIMEOUT_SECONDS}",
        "--quiet=true",
        "--show-console-readout=false",
        "--stderr=true",
    ]
    wanted = "".join(f"{part.url}\n  out={part.name}\n" for part in missing)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=sys.stderr, text=True
    ) as running:
        assert running.stdin is not None  # noqa: S101 - told by the pipe
        running.stdin.write(wanted)
        running.stdin.close()
        while running.poll() is None:
            time.sleep(0.5)
            reason = _runaway(plan, missing, sizes)
            if reason:
                running.kill()
                raise SnapshotError(reason)
            progress.at(space.used(plan.downloaded / part.name for part in plan.parts))
    return "aria2c ended well" if running.returncode == 0 else f"aria2c's exit status {running.returncode}"


def _runaway(plan: Plan, missing: list[Part], sizes: dict[str, int]) -> str:
    """Why the download must not go on: the sizes were known before, and nothing may grow past them."""
    for part in missing:
        file = plan.downloaded / part.name
        if file.exists() and file.stat().st_size > sizes[part.name]:
            file.unlink()
            return f"{part.url} sends more than the {sizes[part.name]} bytes that it is said to have."
    if space.free(plan.staging) < plan.spare // 2:
        return f"the file system of {plan.staging} fills up while the snapshot is downloaded; make room there and start again."
    return ""
