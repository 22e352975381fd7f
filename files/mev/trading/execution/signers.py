"""Who signs transactions: a key of ours, or a program that holds it (Web3Signer, Clef, a node) and is asked over JSON-RPC.

What comes back from there is not believed: it is used only where it is, byte for byte, what was asked for with a signature of the address that
was configured. So such a program can hold a trade up and cannot change one.
"""

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from mev.chain import rlp, wire
from mev.chain.abi import keccak256
from mev.chain.errors import HostileAnswerError, MalformedAnswerError, RpcError, RpcUnavailableError
from mev.chain.messages import Json
from mev.chain.relay import Relay
from mev.chain.rpc import Rpc
from mev.chain.transactions import decode_signed
from mev.domain.market import Address
from mev.runtime.config import ConfigError, SignerConfig
from mev.runtime.config_submitters import relay_url
from mev.runtime.secret import SecretError, signing_key
from mev.trading.execution.transaction import (
    DYNAMIC_FEE,
    SignedTransaction,
    Signer,
    Transaction,
    encode_signed,
)
from mev.trading.risk import Reason

# y_parity, r and s stand at the end of a signed transaction.
SIGNATURE_FIELDS = 3
IPC = "ipc://"


class SignerError(Exception):
    """There is no signature that can be used; `reason` is why, and nothing was written or sent."""

    def __init__(self, message: str, reason: Reason) -> None:
        super().__init__(message)
        self.reason = reason


class Signs(Protocol):
    """Signs the transactions of one address, while its context is open."""

    address: Address

    async def signed(self, transaction: Transaction) -> SignedTransaction:
        """Return a transaction signed; raises SignerError."""

    async def __aenter__(self) -> Self:
        """Begin."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End."""


class RemoteSigner:
    """A program that holds the key of `address`, asked by `method` with a transaction's fields."""

    def __init__(self, url: str, address: Address, *, method: str, timeout_seconds: float) -> None:
        """Take an http://, https:// or ipc:///path URL."""
        self.address = address
        self._method = method
        self._place: Rpc | Relay
        self._ask: Callable[[str, Sequence[object]], Awaitable[Json]]
        if url.startswith(IPC):
            self._place = rpc = Rpc(url, timeout_seconds=timeout_seconds)
            self._ask = rpc.call
        else:
            self._place = relay = Relay("signer", url, timeout_seconds=timeout_seconds)
            self._ask = relay.ask

    def __repr__(self) -> str:
        return f"RemoteSigner(0x{self.address.hex()})"

    async def __aenter__(self) -> Self:
        """Connect, where there is a connection to keep."""
        if isinstance(self._place, Rpc):
            await self._place.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close its connections."""
        if isinstance(self._place, Rpc):
            await self._place.__aexit__(kind, error, traceback)
        else:
            await self._place.close()

    async def ask(self, method: str, params: Sequence[object]) -> Json:
        """Ask what signs nothing; raises as the transport does (mev.chain.errors)."""
        return await self._ask(method, params)

    async def signed(self, transaction: Transaction) -> SignedTransaction:
        """Ask once; raises SignerError where it refuses, does not answer in time, or answers with anything but what it was asked for."""
        try:
            answer = await self._ask(self._method, [_document(transaction, self.address)])
            return checked(transaction, self.address, answer)
        except RpcError as refusal:
            raise SignerError(f"the signer refuses: {refusal}", Reason.SIGNER_REFUSED) from None
        except (HostileAnswerError, MalformedAnswerError) as lie:
            raise SignerError(f"the signer's answer cannot be used: {lie}", Reason.SIGNER_LIED) from None
        except RpcUnavailableError as silence:
            raise SignerError(f"the signer does not answer: {silence}", Reason.SIGNER_UNANSWERED) from None


def checked(transaction: Transaction, address: Address, answer: Json) -> SignedTransaction:
    """Return what a signer answered, where it is what was asked for and signed by `address`; raises MalformedAnswerError.

    Web3Signer answers with the signed bytes, Clef and nodes with an object that holds them as `raw`.
    """
    raw = wire.data(answer.get("raw") if isinstance(answer, dict) else answer)
    sent = decode_signed(raw)
    if sent.sender != address:
        raise MalformedAnswerError(f"it is signed by {wire.encode(sent.sender)}, not by {wire.encode(address)}")
    fields = rlp.decode(raw[1:]) if raw[:1] == DYNAMIC_FEE else []
    signature = [rlp.integer(each) for each in fields[-SIGNATURE_FIELDS:]] if isinstance(fields, list) else []
    if len(signature) != SIGNATURE_FIELDS or encode_signed(transaction, *signature) != raw:
        raise MalformedAnswerError("it is another transaction than the one that was to be signed")
    return SignedTransaction(raw=raw, hash=keccak256(raw))


def signer_of(config: SignerConfig) -> Signer | RemoteSigner:
    """Return who signs by the configuration; raises SecretError, ConfigError."""
    if config.key is not None:
        try:
            return Signer(signing_key(config.key))
        except ValueError as error:
            raise SecretError(f"{config.key}: {error}") from None
    if config.url is None or config.address is None:
        raise ConfigError("signer has neither a key nor a url and its address")
    return RemoteSigner(
        config.url if config.url.startswith(IPC) else relay_url(config.url),
        config.address,
        method=config.method,
        timeout_seconds=config.timeout_seconds,
    )


def _document(transaction: Transaction, address: Address) -> dict[str, str]:
    return {
        "from": wire.encode(address),
        "to": wire.encode(transaction.to),
        "gas": hex(transaction.gas_limit),
        "maxFeePerGas": hex(transaction.max_fee_wei),
        "maxPriorityFeePerGas": hex(transaction.max_priority_fee_wei),
        "value": hex(transaction.value_wei),
        "nonce": hex(transaction.nonce),
        "data": wire.encode(transaction.data),
        "chainId": hex(transaction.chain_id),
    }
