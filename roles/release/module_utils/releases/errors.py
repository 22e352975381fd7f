"""The one error that a release's modules raise on purpose."""

from __future__ import annotations


class ReleaseError(Exception):
    """One sentence for the operator: what is wrong, where it comes from, what is allowed."""
