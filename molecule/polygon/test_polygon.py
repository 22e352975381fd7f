"""Heimdall and Bor run Polygon."""

from __future__ import annotations

from tests.chain_units import ChainUnits


class TestUnits(ChainUnits):
    CHAINS = ("polygon",)
