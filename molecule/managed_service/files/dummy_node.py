#!/usr/bin/python3
"""A program to manage: answers as a node does, and shows what it was given."""

import argparse
import hashlib
import json
import os
import resource
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chain-id", type=int, default=10)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--secret", type=Path)
    parser.add_argument("--say", default="")
    parser.add_argument("--mute", action="store_true", help="listen, and answer every question with an error")
    parser.add_argument("--die", action="store_true", help="say why, and end")
    return parser.parse_args()


def witness(options: argparse.Namespace) -> dict[str, object]:
    """Show what the service manager gave the program."""
    return {
        "argv": sys.argv[1:],
        "environment": {name: value for name, value in os.environ.items() if name.startswith("DUMMY_")},
        "secret": hashlib.sha256(options.secret.read_bytes()).hexdigest() if options.secret else None,
        "uid": os.getuid(),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "policy": os.sched_getscheduler(0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "directory": str(Path.cwd()),
    }


def result(options: argparse.Namespace, method: str) -> object:
    """Answer as an execution client or a rollup's consensus client that is in step."""
    now = int(time.time())
    return {
        "eth_chainId": hex(options.chain_id),
        "eth_syncing": False,
        "eth_getBlockByNumber": {"number": hex(now), "timestamp": hex(now)},
        "optimism_syncStatus": {"unsafe_l2": {"number": now, "timestamp": now}},
        "optimism_rollupConfig": {"l2_chain_id": options.chain_id},
    }[method]


def main() -> None:
    """Serve until told to stop."""
    options = arguments()
    if options.die:
        sys.exit("dummy: I was told to die")
    if options.data:
        with (options.data / "starts").open("a") as starts:
            starts.write(f"{time.time()}\n")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if options.mute:
                self.reply({"error": {"message": "not yet"}})
            else:
                self.reply({"jsonrpc": "2.0", "id": asked["id"], "result": result(options, asked["method"])})

        def do_GET(self) -> None:
            self.reply(witness(options))

        def reply(self, answer: object) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    print(f"dummy: listening on port {options.port} {options.say}", flush=True)
    ThreadingHTTPServer((options.address, options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
