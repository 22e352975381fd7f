"""Whose balances the ledger follows."""

import msgspec

from mev.domain.market import Address
from mev.runtime.config import ChainConfig
from mev.trading.execution import contract
from mev.trading.execution.signers import Signs


class Accounts(msgspec.Struct, frozen=True, kw_only=True):
    """Whose balances the ledger follows on a chain: the signer's native coin and the executor's wrapped one."""

    chain: str
    wrapped_native: Address
    signer: Address
    executor: Address


def accounts_of(chain: str, config: ChainConfig, signer: Signs) -> Accounts:
    """Return whose balances count on a chain: they follow from the signer alone."""
    return Accounts(
        chain=chain,
        wrapped_native=config.wrapped_native,
        signer=signer.address,
        executor=contract.address(signer.address),
    )
