"""What can go wrong between us and a node: it says no, or it says nothing that can be used."""


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


class RpcTimeoutError(RpcUnavailableError):
    """The node did not answer in time."""


class MalformedAnswerError(RpcUnavailableError):
    """The node sent what is no answer to what was asked."""


class WrongChainError(RpcUnavailableError):
    """The node speaks for another chain than the configuration says; nothing is asked of it."""
