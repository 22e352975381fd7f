"""Clients of the edge that keep their connections while its certificate changes: clients.py http|websocket OUTPUT STOP.

Writes one JSON object: how many answers or messages came, how many connections that took, and what went wrong with them; that no node is in step
is an answer. OUTPUT with the ending .begun is there once the connection is, and it ends when STOP is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import sys
import time
from pathlib import Path

import aiohttp

NAME = "ethereum.rpc.lyftium.com"
BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []})


def calls(stop: Path, begun: Path) -> dict[str, object]:
    """Call over one connection, fifty times a second, and make another one only where that breaks."""
    context = ssl.create_default_context()
    answers, connections, problems, link = 0, 0, [], None
    while not stop.exists():
        try:
            if link is None:
                link = http.client.HTTPSConnection(NAME, 8443, context=context)
                plain = socket.create_connection(("127.0.0.1", 8443), timeout=30, source_address=("127.66.0.4", 0))
                link.sock = context.wrap_socket(plain, server_hostname=NAME)
                connections += 1
                begun.touch()
            link.request("POST", "/", BODY, {"Content-Type": "application/json"})
            answer = link.getresponse()
            json.loads(answer.read())
            answers += 1
        except (OSError, http.client.HTTPException, ValueError) as error:
            problems.append(repr(error))
            link = None
        time.sleep(0.02)
    return {"answers": answers, "connections": connections, "problems": problems[:5]}


class Edge(aiohttp.abc.AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: int = 2) -> list[aiohttp.abc.ResolveResult]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family or 2, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


async def linked(session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
    """Open a WebSocket, as soon as a node is in step."""
    for _ in range(100):
        try:
            return await session.ws_connect(f"https://{NAME}:8443/")
        except aiohttp.WSServerHandshakeError:
            await asyncio.sleep(0.3)
    raise TimeoutError


async def subscription(stop: Path, begun: Path) -> dict[str, object]:
    """Hear of new heads over one WebSocket, and call over it five times a second."""
    messages, problems = 0, []
    connector = aiohttp.TCPConnector(resolver=Edge(), local_addr=("127.66.0.5", 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        link = await linked(session)
        await asyncio.to_thread(begun.touch)
        await link.send_json({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})
        while not await asyncio.to_thread(stop.exists):
            await link.send_json({"jsonrpc": "2.0", "id": 2, "method": "eth_blockNumber", "params": []})
            with contextlib.suppress(asyncio.TimeoutError):
                message = await link.receive(timeout=20)
                if message.type is not aiohttp.WSMsgType.TEXT:
                    problems.append(f"{message.type} {link.close_code}")
                    break
                messages += 1
            await asyncio.sleep(0.2)
    return {"answers": messages, "connections": 1, "problems": problems}


if __name__ == "__main__":
    kind, output, stop = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    begun = output.with_suffix(".begun")
    told = calls(stop, begun) if kind == "http" else asyncio.run(subscription(stop, begun))
    output.write_text(json.dumps(told))
