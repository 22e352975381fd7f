"""JSON-RPC 2.0 messages: what we send, and what may come back. Only the parts that are asked for are decoded."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from mev.chain.errors import HostileAnswerError, MalformedAnswerError, Offence, RpcError

# What a node said: not to be trusted before mev.chain.wire or msgspec has looked at it.
Json = Any
T = TypeVar("T")

MESSAGE_CHARACTERS = 400
# What msgspec raises for bytes that anyone may have sent.
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Call(msgspec.Struct):
    """A request; `params` are what JSON can say: hex, not bytes."""

    id: int
    method: str
    params: Sequence[object]
    jsonrpc: str = "2.0"


class Notification(msgspec.Struct):
    """What a subscription tells."""

    subscription: str
    result: msgspec.Raw


class Message(msgspec.Struct):
    """An answer, or a notification."""

    id: int | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    method: str | None = None
    params: Notification | None = None

    def refusal(self) -> RpcError | None:
        """Return the error that this answer is, if it is one."""
        if bytes(self.error) in {b"", b"null"}:
            return None
        try:
            error = msgspec.json.decode(self.error, type=_Error)
        except _UNREADABLE:
            return RpcError(0, "the node answered with an error that cannot be read")
        return RpcError(error.code, error.message[:MESSAGE_CHARACTERS], error.data)


class _Error(msgspec.Struct):
    code: int
    message: str
    data: Json = None


_MESSAGES = msgspec.json.Decoder(Message | list[Message])


def read(received: bytes) -> list[Message]:
    """Return a frame's messages; raises HostileAnswerError where it is no JSON-RPC."""
    try:
        decoded = _MESSAGES.decode(received)
    except RecursionError:
        raise HostileAnswerError("no JSON-RPC: it is nested too deeply", Offence.TOO_DEEP) from None
    except _UNREADABLE as error:
        raise HostileAnswerError(f"no JSON-RPC: {reason_of(error)}") from None
    return decoded if isinstance(decoded, list) else [decoded]


def decode(method: str, answer: msgspec.Raw, kind: type[T]) -> T:
    """Return what a method answered as `kind`; raises MalformedAnswerError where it is something else."""
    try:
        return msgspec.json.decode(answer, type=kind)
    except _UNREADABLE as error:
        raise MalformedAnswerError(f"{method} answered with something else: {reason_of(error)}") from None


def reason_of(error: Exception) -> str:
    """Return an exception's message, never empty and never long."""
    return (str(error) or type(error).__name__)[:MESSAGE_CHARACTERS]
