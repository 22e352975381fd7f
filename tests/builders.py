"""Strict stand-ins of those who are handed trades: block builders, private RPCs. HTTP on loopback; what the protocol does not allow is refused.

`answer` may be made to say what no honest one says; `received` has what was asked, method and parameters.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from eth_account import Account
from eth_account.messages import encode_defunct
from mev.chain.abi import keccak256

if TYPE_CHECKING:
    from collections.abc import Callable

BUNDLE_KEYS = {"txs", "blockNumber", "minTimestamp", "maxTimestamp", "revertingTxHashes", "replacementUuid"}


class RefusedError(Exception):
    """What is asked is not what the protocol allows."""


class Taker:
    """A place that takes trades until it is closed. `taken` has raw transactions by the last block that may hold them."""

    def __init__(self, identity: str | None = None) -> None:
        """With the address `identity`, only what bears its signature is taken."""
        self.received: list[tuple[str, Any]] = []
        self.taken: dict[int, list[str]] = {}
        self.refused: list[str] = []
        self.paths: list[str] = []
        # Methods of others, whose answers a test gives itself.
        self.others: set[str] = set()
        self.answer: Callable[[dict[str, Any]], bytes] = lambda answer: json.dumps(answer).encode()
        # Cleared, it says nothing before it is set again.
        self.gate = threading.Event()
        self.gate.set()
        self.on_taken: Callable[[], object] = lambda: None
        taker = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                taker.paths.append(self.path)
                asked = json.loads(body)
                said: dict[str, Any] = {"jsonrpc": "2.0", "id": asked["id"]}
                try:
                    if identity is not None:
                        check_signature(identity, self.headers.get("X-Flashbots-Signature"), body)
                    said["result"] = taker._take(asked["method"], asked["params"])
                except RefusedError as refusal:
                    taker.refused.append(str(refusal))
                    said["error"] = {"code": -32602, "message": str(refusal)}
                taker.on_taken()
                taker.gate.wait()
                content = taker.answer(said)
                self.send_response(200 if "result" in said else 400)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/relay"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()

    def _take(self, method: str, params: Any) -> Any:
        self.received.append((method, params))
        if method == "eth_sendBundle":
            return {"bundleHash": self._bundle(*params)}
        if method == "eth_sendRawTransaction":
            return self._keep(params[0], 0)
        if method == "eth_sendPrivateTransaction":
            if set(params[0]) != {"tx", "maxBlockNumber"}:
                raise RefusedError(f"eth_sendPrivateTransaction takes no {set(params[0])}")
            return self._keep(params[0]["tx"], quantity(params[0]["maxBlockNumber"]))
        if method in self.others:
            return None
        raise RefusedError(f"the method {method} does not exist")

    def _bundle(self, bundle: dict[str, Any]) -> str:
        if unknown := set(bundle) - BUNDLE_KEYS:
            raise RefusedError(f"a bundle has no {unknown}")
        if not bundle["txs"]:
            raise RefusedError("a bundle of nothing")
        for raw in bundle["txs"]:
            self._keep(raw, quantity(bundle["blockNumber"]))
        return "0x" + keccak256(b"".join(keccak256(bytes.fromhex(raw[2:])) for raw in bundle["txs"])).hex()

    def _keep(self, raw: str, block: int) -> str:
        # Raises where it is no transaction.
        Account.recover_transaction(raw)
        self.taken.setdefault(block, []).append(raw)
        return "0x" + keccak256(bytes.fromhex(raw[2:])).hex()


def check_signature(identity: str, header: str | None, body: bytes) -> None:
    """Raise RefusedError unless a body's hash is signed by an address, as builders verify it (eth_account's recovery)."""
    address, _, signature = (header or "").partition(":")
    message = encode_defunct(text="0x" + keccak256(body).hex())
    if (
        not signature
        or Account.recover_message(message, signature=signature) != identity
        or address != identity.lower()
    ):
        raise RefusedError("the signature is not its sender's")


def quantity(text: str) -> int:
    """Return a JSON-RPC quantity's number; raises RefusedError where it is none."""
    if not text.startswith("0x") or (text.startswith("0x0") and text != "0x0"):
        raise RefusedError(f"{text} is no quantity")
    return int(text, 16)


class Sequencer(Taker):
    """Arbitrum's sequencer as its express lane is spoken to: what its round's controller has not signed it refuses, in Nitro's words."""

    KEYS = frozenset(
        {"chainId", "round", "auctionContractAddress", "sequenceNumber", "transaction", "options", "signature"}
    )

    def __init__(self, controller: str, chain_id: int, auction_contract: str) -> None:
        super().__init__()
        self.controller, self.chain_id, self.auction_contract = controller, chain_id, auction_contract
        self.round = 0

    def _take(self, method: str, params: Any) -> Any:
        self.received.append((method, params))
        if method != "timeboost_sendExpressLaneTransaction":
            raise RefusedError(f"the method {method} does not exist/is not available")
        (asked,) = params
        if set(asked) != self.KEYS or asked["options"] != {}:
            raise RefusedError("MALFORMED_DATA")
        if asked["auctionContractAddress"] != self.auction_contract:
            raise RefusedError("WRONG_AUCTION_CONTRACT")
        if quantity(asked["chainId"]) != self.chain_id:
            raise RefusedError("WRONG_CHAIN_ID")
        if quantity(asked["round"]) != self.round:
            raise RefusedError("BAD_ROUND_NUMBER")
        message = b"".join(
            (
                keccak256(b"TIMEBOOST_BID"),
                self.chain_id.to_bytes(32, "big"),
                bytes.fromhex(self.auction_contract[2:]),
                self.round.to_bytes(8, "big"),
                quantity(asked["sequenceNumber"]).to_bytes(8, "big"),
                bytes.fromhex(asked["transaction"][2:]),
            )
        )
        signer = Account.recover_message(encode_defunct(primitive=message), signature=asked["signature"])
        if signer != self.controller:
            raise RefusedError("NOT_EXPRESS_LANE_CONTROLLER")
        self._keep(asked["transaction"], 0)
