"""Stand in for the DNS APIs of Cloudflare (v4) and Route 53 (2013-04-01), as far as certbot's plugins use them, over BIND.

    dns_apis.py PORT CERTIFICATE KEY NSUPDATE_KEY REPORT

Whoever calls must log in as the provider wants it, name a zone that there is, and send nothing that is not known here; else it gets the
provider's own kind of error and a line under `problems` of REPORT, beside the `records` that were written and removed. What is
accepted goes to BIND, so that an authority finds it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import ssl
import subprocess
import sys
import urllib.parse
import xml.etree.ElementTree as ET
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

ZONE = "rpc.lyftium.com"
NAME = f"_acme-challenge.{ZONE}"
ZONE_ID = "0123456789abcdef0123456789abcdef"
HOSTED_ZONE = "Z0123456789ABCDEFGHIJ"
TOKEN = "a-token-of-cloudflare-that-is-none-40-ch"
AWS_ID, AWS_SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
XMLNS = "https://route53.amazonaws.com/doc/2013-04-01/"
Query = dict[str, str]


class RefusalError(Exception):
    """What the caller did wrong: the status, the provider's code, and words."""

    def __init__(self, status: int, code: object, words: str) -> None:
        super().__init__(words)
        self.status, self.code = status, code


class World:
    """The records, in BIND as well, and what was done."""

    def __init__(self, key: str, report: Path) -> None:
        self.key, self.report = key, report
        self.texts: dict[str, str] = {}
        self.told: dict[str, list[Any]] = {"records": [], "problems": []}
        self.write()

    def write(self) -> None:
        self.report.write_text(json.dumps(self.told))

    def set(self, texts: dict[str, str], action: str, api: str) -> None:
        """Have the name hold these texts, by their ids."""
        lines = [f"update delete {NAME}. TXT", *(f'update add {NAME}. 5 TXT "{text}"' for text in texts.values())]
        script = "\n".join(["server 127.0.0.1", f"zone {ZONE}", *lines, "send", ""])
        subprocess.run(["nsupdate", "-k", self.key], input=script, text=True, check=True, timeout=10)
        self.texts = dict(texts)
        self.told["records"].append([api, action, sorted(texts.values())])
        self.write()


def only(given: dict[str, Any], *names: str) -> None:
    """Refuse names that are not known."""
    if set(given) != set(names):
        raise RefusalError(400, 1004, f"{sorted(given)} are given, {sorted(names)} are known")


def cloudflare(world: World, method: str, path: str, query: Query, headers: Any, body: bytes) -> Any:
    """Answer a call of Cloudflare's API with its `result`."""
    if headers["Authorization"] != f"Bearer {TOKEN}":
        raise RefusalError(403, 9109, "Invalid access token")
    # Its own library asks for further pages until one is empty.
    if method == "GET" and int(query.pop("page", "1")) > 1:
        return []
    records = f"/client/v4/zones/{ZONE_ID}/dns_records"
    if (method, path) == ("GET", "/client/v4/zones"):
        only(query, "name", "per_page")
        return [{"id": ZONE_ID, "name": ZONE}] if query["name"] == ZONE else []
    if (method, path) == ("POST", records):
        given = json.loads(body)
        only(given, "type", "name", "content", "ttl")
        if (given["type"], given["name"]) != ("TXT", NAME):
            raise RefusalError(400, 1004, f"a {given['type']} of {given['name']}")
        number = hashlib.md5(given["content"].encode(), usedforsecurity=False).hexdigest()
        world.set({**world.texts, number: given["content"]}, "create", "cloudflare")
        return {"id": number, **given}
    if (method, path) == ("GET", records):
        only(query, "type", "name.exact", "content.exact", "per_page")
        found = [number for number, text in world.texts.items() if text == query["content.exact"]]
        return [
            {"id": number, "type": "TXT", "name": NAME, "content": world.texts[number], "ttl": 120} for number in found
        ]
    if method == "DELETE" and path.removeprefix(f"{records}/") in world.texts:
        number = path.removeprefix(f"{records}/")
        world.set({known: text for known, text in world.texts.items() if known != number}, "delete", "cloudflare")
        return {"id": number}
    raise RefusalError(404, 7003, f"{method} {path}")


def check_signature(method: str, target: urllib.parse.SplitResult, headers: Any, body: bytes) -> None:
    """Refuse what is not signed by AWS' Signature Version 4 with our secret."""
    form = r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/route53/aws4_request, SignedHeaders=([^,]+), Signature=([0-9a-f]{64})"
    given = re.fullmatch(form, headers["Authorization"] or "")
    if given is None or given[1] != AWS_ID:
        raise RefusalError(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
    _, day, region, names, signature = given.groups()
    query = "&".join(sorted(target.query.split("&"))) if target.query else ""
    signed = "".join(f"{name}:{' '.join((headers[name] or '').split())}\n" for name in names.split(";"))
    request = "\n".join([method, target.path, query, signed, names, hashlib.sha256(body).hexdigest()])
    scope = f"{day}/{region}/route53/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", headers["X-Amz-Date"], scope, hashlib.sha256(request.encode()).hexdigest()])
    key = f"AWS4{AWS_SECRET}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(key.hex(), signature):
        raise RefusalError(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")


def route53(world: World, method: str, path: str, query: Query, body: bytes) -> str:
    """Answer a call of Route 53's API with its XML."""
    change = "<ChangeInfo><Id>/change/C1</Id><Status>INSYNC</Status><SubmittedAt>2026-01-01T00:00:00Z</SubmittedAt></ChangeInfo>"
    if (method, path) == ("GET", "/2013-04-01/hostedzone"):
        only(query)
        zones = "".join(
            f"<HostedZone><Id>/hostedzone/{number}</Id><Name>{name}.</Name><CallerReference>x</CallerReference>"
            f"<Config><PrivateZone>{private}</PrivateZone></Config></HostedZone>"
            for number, name, private in (("ZOTHER", "lyftium.com", "false"), ("ZPRIVATE", ZONE, "true"), (HOSTED_ZONE, ZONE, "false"))
        )  # fmt: skip
        return f'<ListHostedZonesResponse xmlns="{XMLNS}"><HostedZones>{zones}</HostedZones><IsTruncated>false</IsTruncated><MaxItems>100</MaxItems></ListHostedZonesResponse>'
    if (method, path) == ("GET", "/2013-04-01/change/C1"):
        return f'<GetChangeResponse xmlns="{XMLNS}">{change}</GetChangeResponse>'
    if (method, path) == ("POST", f"/2013-04-01/hostedzone/{HOSTED_ZONE}/rrset/"):
        space = {"a": XMLNS}
        (given,) = ET.fromstring(body).findall(".//a:Change", space)  # noqa: S314
        told = {item.tag.partition("}")[2]: item.text for item in given.iter()}
        values = [item.text or "" for item in given.findall(".//a:Value", space)]
        if (told["Name"], told["Type"]) != (NAME, "TXT") or not all(re.fullmatch(r'"[^"]+"', each) for each in values):
            raise RefusalError(400, "InvalidChangeBatch", f"a {told['Type']} of {told['Name']}: {values}")
        texts = {value: value.strip('"') for value in values}
        if told["Action"] == "DELETE" and texts != world.texts:
            raise RefusalError(400, "InvalidChangeBatch", "the values provided do not match the current values")
        world.set({} if told["Action"] == "DELETE" else texts, str(told["Action"]).lower(), "route53")
        return f'<ChangeResourceRecordSetsResponse xmlns="{XMLNS}">{change}</ChangeResourceRecordSetsResponse>'
    raise RefusalError(404, "NoSuchHostedZone", f"{method} {path}")


class Handler(BaseHTTPRequestHandler):
    """Both APIs on one port: their paths differ."""

    world: World

    def answer(self) -> None:
        """Answer, and write down what was wrong."""
        target = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(target.query, strict_parsing=True)) if target.query else {}
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        is_cloudflare = target.path.startswith("/client/v4/")
        try:
            if is_cloudflare:
                result = cloudflare(self.world, self.command, target.path, query, self.headers, body)
                status, text = 200, json.dumps({"success": True, "errors": [], "messages": [], "result": result})
            else:
                check_signature(self.command, target, self.headers, body)
                status, text = 200, route53(self.world, self.command, target.path, query, body)
        except RefusalError as refusal:
            self.world.told["problems"].append(str(refusal))
            self.world.write()
            status = refusal.status
            error = {"code": refusal.code, "message": str(refusal)}
            text = (
                json.dumps({"success": False, "errors": [error], "messages": [], "result": None})
                if is_cloudflare
                else f'<ErrorResponse xmlns="{XMLNS}"><Error><Type>Sender</Type><Code>{refusal.code}</Code><Message>{refusal}</Message></Error></ErrorResponse>'
            )
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if is_cloudflare else "text/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Answer until ended."""
    port, certificate, key, update_key, report = sys.argv[1:]
    Handler.world = World(update_key, Path(report))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", int(port)), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
