"""The way that a chain's trades leave by, where that is not its own nodes: several places side by side, and never by another way."""

import asyncio
from collections.abc import Callable, Mapping
from enum import StrEnum

import structlog

from mev.chain.errors import HostileAnswerError, RpcError, RpcNotSentError, RpcUnavailableError
from mev.domain.market import Address
from mev.runtime.config import ChainConfig
from mev.runtime.config_submitters import SubmitterKind
from mev.trading.execution.submitters import Handed, Submitter, made

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """What became of handing over one transaction."""

    ACCEPTED = "accepted"
    # It may have it all the same.
    UNANSWERED = "unanswered"
    HOSTILE = "hostile"
    REFUSED = "refused"
    # Nothing has left.
    NOT_SENT = "not_sent"


# Of several places' outcomes the first of these is that of them all.
_FIRST = (Outcome.ACCEPTED, Outcome.UNANSWERED, Outcome.REFUSED, Outcome.NOT_SENT)

Told = Callable[[str, str, Outcome], None]


class Way:
    """One chain's; `kind` is what the ledger writes beside each transaction that leaves by it."""

    def __init__(
        self, chain: str, kind: SubmitterKind, submitters: Mapping[str, Submitter], told: Told = lambda *_: None
    ) -> None:
        """`submitters` by their names; `told` hears the chain, the name and the outcome of each handing over."""
        self._chain = chain
        self._submitters = submitters
        self._told = told
        self.kind = kind

    async def hand(self, handed: Handed) -> Outcome:
        """Hand a transaction to all places at the same time, once each; they bound the time that takes."""
        outcomes = await asyncio.gather(*(self._one(name, each, handed) for name, each in self._submitters.items()))
        # What answers with rubbish has been sent it.
        judged = {Outcome.UNANSWERED if each is Outcome.HOSTILE else each for each in outcomes}
        outcome = next(each for each in _FIRST if each in judged)
        if outcome is Outcome.NOT_SENT:
            log.warning(
                "not sent: none of the chain's private submitters can be reached, and it is sent nowhere else",
                chain=self._chain,
                submitters=", ".join(self._submitters),
                transaction=f"0x{handed.hash.hex()}",
            )
        return outcome

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(each.close() for each in self._submitters.values()))

    async def _one(self, name: str, submitter: Submitter, handed: Handed) -> Outcome:
        why = ""
        try:
            await submitter.send(handed)
            outcome = Outcome.ACCEPTED
        except RpcError as refusal:
            outcome, why = Outcome.REFUSED, str(refusal)
        except RpcNotSentError as failure:
            outcome, why = Outcome.NOT_SENT, str(failure)
        except HostileAnswerError as lie:
            outcome, why = Outcome.HOSTILE, str(lie)
        except RpcUnavailableError as silence:
            outcome, why = Outcome.UNANSWERED, str(silence)
        except Exception:
            # A plug-in's own fault: it may have sent it before.
            log.exception("submitter failed", chain=self._chain, submitter=name)
            outcome = Outcome.UNANSWERED
        self._told(self._chain, name, outcome)
        told = log.info if outcome is Outcome.ACCEPTED else log.warning
        told(
            "handed over",
            chain=self._chain,
            submitter=name,
            outcome=outcome,
            transaction=f"0x{handed.hash.hex()}",
            **({"why": why} if why else {}),
        )
        return outcome


def way_of(chain: str, config: ChainConfig, told: Told = lambda *_: None, signer: Address | None = None) -> Way | None:
    """Return the way that is configured for a chain, whose transactions `signer` signs; None is its own nodes. Raises ConfigError, SecretError."""
    kinds = {each.kind for each in config.submitters}
    if not kinds or SubmitterKind.PUBLIC in kinds:
        return None
    (kind,) = kinds
    return Way(chain, kind, {each.name: made(chain, config, each, signer) for each in config.submitters}, told)
