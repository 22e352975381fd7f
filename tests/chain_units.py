"""The tests that every chain's scenario makes of its units; a scenario's class says only which chains its host runs.

class TestUnits(ChainUnits):
    CHAINS = ("polygon",)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tests import chain_checks as checks

if TYPE_CHECKING:
    from testinfra.host import Host

PAIR = "pair"
EXECUTION = "execution"


class ChainUnits:
    """Its tests ask for a `unit`, an `execution_unit` or a `chain`: molecule/conftest.py gives each of the class's chains' in turn."""

    CHAINS: ClassVar[tuple[str, ...]]

    @classmethod
    def turns(cls, wanted: str) -> list[str]:
        """Return what a test of this class is run for, by the name of its argument; a pair's unit of both is not a client."""
        if wanted == "chain":
            return list(cls.CHAINS)
        return [
            unit
            for unit, facts in checks.SERVICES.items()
            if facts.get("chain") in cls.CHAINS
            and facts["part"] != PAIR
            and (wanted == "unit" or facts["part"] == EXECUTION)
        ]

    def test_unit_runs_as_the_catalogue_says(self, host: Host, unit: str) -> None:
        checks.runs_as_the_catalogue_says(host, unit)

    def test_listeners_are_bound_and_nothing_wider(self, host: Host, unit: str) -> None:
        checks.binds_its_listeners_and_nothing_wider(host, unit)

    def test_unit_is_in_step(self, host: Host, unit: str) -> None:
        checks.is_in_step(host, unit)

    def test_unit_is_confined(self, host: Host, unit: str) -> None:
        checks.is_confined(host, unit)

    def test_node_answers_with_its_chain_s_id(self, host: Host, execution_unit: str) -> None:
        checks.answers_with_its_chain_id(host, execution_unit)

    def test_engine_secret_is_the_host_s_own(self, host: Host, chain: str) -> None:
        checks.engine_secret_is_the_hosts_own(host, chain)
