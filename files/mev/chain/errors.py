"""What can go wrong between us and a node: it says no, or it says nothing that can be used."""

from enum import StrEnum


class Offence(StrEnum):
    """What no honest node does; each is counted by this name, and the end point is left alone for a while."""

    NOT_JSON_RPC = "not_json_rpc"
    TOO_DEEP = "too_deep"
    TOO_LARGE = "too_large"
    WRONG_ID = "wrong_id"
    WRONG_CHAIN = "wrong_chain"
    HEAD_JUMP = "head_jump"
    CONTRADICTED = "contradicted"
    FALSE_LOGS = "false_logs"


class RpcError(Exception):
    """The node answered, and its answer is an error; the message is the node's."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class RpcUnavailableError(Exception):
    """There is no answer that can be used: not connected, connection lost, too late, or no JSON-RPC.

    What was asked may have been done all the same: only what is safe to repeat may be asked again.
    """


class RpcNotSentError(RpcUnavailableError):
    """Nothing was sent: another end point may be asked whatever it was."""


class RpcTimeoutError(RpcUnavailableError):
    """The node did not answer in time."""


class MalformedAnswerError(RpcUnavailableError):
    """The node sent what is no answer to what was asked."""


class HostileAnswerError(MalformedAnswerError):
    """The node sent what no honest node sends; `offence` says what."""

    def __init__(self, message: str, offence: Offence = Offence.NOT_JSON_RPC) -> None:
        super().__init__(message)
        self.offence = offence


class DisputedError(RpcUnavailableError):
    """Nodes of one chain do not say the same, and no word is that of more than half of them."""


class WrongChainError(RpcNotSentError):
    """The node speaks for another chain than the configuration says; nothing is asked of it."""
