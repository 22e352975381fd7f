"""One measured figure, in the format that every suite prints."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import NamedTuple


class Figure(NamedTuple):
    """A figure and, where a peer did the same work in the same run, the peer's; ratio > 1 means that we are better."""

    name: str
    value: float
    unit: str
    runs: int
    peer: str | None = None
    peer_value: float | None = None
    more_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        """How much better than the peer."""
        if not self.peer_value or not self.value:
            return None
        return round(self.value / self.peer_value if self.more_is_better else self.peer_value / self.value, 3)

    def json(self) -> str:
        """One line of JSON."""
        return json.dumps(
            {
                "name": self.name,
                "value": round(self.value, 3),
                "unit": self.unit,
                "peer": self.peer,
                "peer_value": None if self.peer_value is None else round(self.peer_value, 3),
                "ratio": self.ratio,
                "runs": self.runs,
                "machine": machine(),
            }
        )


def machine() -> str:
    """Cores, memory, kernel: what the figure was measured on."""
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return f"{os.cpu_count()} cores, {memory_kib // 1024**2} GiB, {platform.system()} {platform.release()} {platform.machine()}"


def table(figures: list[Figure]) -> str:
    """The figures for a reader."""
    rows = [
        f"{figure.name:24} {figure.value:12.3f} {figure.unit:8}"
        + (f"  {figure.peer} {figure.peer_value:.3f}, ratio {figure.ratio}" if figure.peer_value is not None else "")
        for figure in figures
    ]
    return "\n".join(["", machine(), *rows, ""])
