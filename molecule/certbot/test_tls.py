"""TLS and headers of the edge, by judges that no one here wrote: testssl.sh, nmap, curl, openssl."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from lab import hosts
from lab.checkout import Checkout
from tests.environments import environment

if TYPE_CHECKING:
    from pathlib import Path

    from testinfra.host import Host

NAME = "ethereum.rpc.lyftium.com"
TO_EDGE = f"--resolve {NAME}:8443:127.0.0.1 --interface 127.66.0.9 -s --max-time 20"
HARMLESS = {"OK", "INFO", "LOW"}
# Each with why it says nothing about this edge.
WAIVED = {
    "cert_revocation": "pebble's certificates name neither a list of revoked ones nor OCSP",
    "engine_problem": "of the judge's own openssl",
}
WANTED = {
    "strict-transport-security": "max-age=31536000; includeSubDomains",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
BODY = '{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}'


def answer(text: str) -> tuple[int, list[tuple[str, str]]]:
    """Status and headers of an answer, as curl -i prints it."""
    head, *lines = text.replace("\r", "").partition("\n\n")[0].splitlines()
    return int(head.split()[1]), [
        (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)
    ]


def has_all_headers_once(text: str) -> int:
    """Hold an answer's headers against what each must have; give its status."""
    status, headers = answer(text)
    for name, value in WANTED.items():
        assert [each for known, each in headers if known == name] == [value], (status, name, headers)
    assert [each for known, each in headers if known == "server"] == ["nginx"]
    return status


def test_testssl_gives_a_plus_and_finds_nothing_above_low(host: Host) -> None:
    host.run(
        "rm -f /run/testssl.json; timeout 300 testssl --quiet --color 0 --warnings off --add-ca /usr/local/share/ca-certificates/pebble.crt "
        f"--jsonfile /run/testssl.json --ip 127.0.0.1 -p -s -f -P -S -h -U https://{NAME}:8443 </dev/null"
    )
    findings = json.loads(host.file("/run/testssl.json").content_string)
    said = {finding["id"]: finding["finding"] for finding in findings}
    # It came to its end, and looked at what this is about.
    assert {"TLS1_2", "TLS1_3", "cert_chain_of_trust", "HSTS_time", "heartbleed", "RC4"} <= set(said), said
    above = [
        (finding["id"], finding["severity"], finding["finding"])
        for finding in findings
        if finding["severity"] not in HARMLESS and finding["id"] not in WAIVED
    ]
    assert above == []
    assert said["overall_grade"] == "A+"
    assert int(said["final_score"]) >= 96
    assert said["FS_KEMs"] == "X25519MLKEM768"


def address_of_the_edge() -> str:
    checkout = Checkout.here()
    return str(hosts.connection(checkout, hosts.known(checkout)["certbot"])["ansible_host"])


def test_sslyze_from_outside_finds_mozilla_s_intermediate_profile_kept(host: Host, tmp_path: Path) -> None:
    root = tmp_path / "pebble.crt"
    root.write_text(host.file("/usr/local/share/ca-certificates/pebble.crt").content_string)
    options = ["--mozilla_config=intermediate", "--certinfo", f"--certinfo_ca_file={root}"]
    judge = [str(environment("sslyze")), "-m", "sslyze", *options, f"{NAME}:8443{{{address_of_the_edge()}}}"]
    done = subprocess.run(judge, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{NAME}:8443: OK - Compliant." in done.stdout, done.stdout


def test_nmap_from_outside_grades_every_cipher_a() -> None:
    script = ["--script", "ssl-enum-ciphers", "--script-args", f"tls.servername={NAME}"]
    done = subprocess.run(
        ["nmap", "-n", "-Pn", "-p", "8443", *script, address_of_the_edge()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert set(re.findall(r"(TLSv[\d.]+|SSLv\d): *$", done.stdout, re.MULTILINE)) == {"TLSv1.2", "TLSv1.3"}
    grades = re.findall(r" - ([A-F])$", done.stdout, re.MULTILINE)
    assert (len(grades), set(grades)) == (6, {"A"}), done.stdout
    assert "least strength: A" in done.stdout


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (f"-d '{BODY}'", 200),
        ("-X GET", None),
        ("-H 'Content-Length: 99999999' -d x", 413),
        (f"--http1.1 -H 'X-Long: {'a' * 40000}'", 431),
        ("--http1.1 -X 'BAD@METHOD'", 400),
        ("-H 'Host: other.rpc.lyftium.com'", 421),
    ],
)
def test_every_answer_has_the_headers_and_no_version(host: Host, options: str, status: int | None) -> None:
    got = has_all_headers_once(host.run(f"curl -i {TO_EDGE} {options} https://{NAME}:8443/").stdout)
    assert status in {None, got}


def test_an_answer_to_plain_http_has_them_too(host: Host) -> None:
    assert has_all_headers_once(host.run(f"curl -i {TO_EDGE} http://{NAME}:8443/").stdout) == 400


def test_a_refusal_for_the_rate_has_them_too(host: Host) -> None:
    host.check_output("rm -rf /run/rate && mkdir /run/rate")
    host.check_output(
        f"curl -i -s --max-time 60 --resolve {NAME}:8443:127.0.0.1 -o /run/rate/#1 'https://{NAME}:8443/?[1-80]'"
    )
    refused = host.check_output("cat $(grep -l '^HTTP/2 429' /run/rate/* | head -n 1)")
    assert has_all_headers_once(refused) == 429


def test_a_refusal_without_a_node_has_them_too(host: Host) -> None:
    host.check_output("systemctl stop erigon")
    try:
        host.check_output(
            'timeout 30 sh -c \'until edge-pools show --json | grep -q "\\"members\\":0"; do sleep 0.2; done\''
        )
        assert has_all_headers_once(host.run(f"curl -i {TO_EDGE} -d '{BODY}' https://{NAME}:8443/").stdout) == 503
    finally:
        host.check_output("systemctl start erigon")
        host.check_output(
            'timeout 60 sh -c \'until edge-pools show --json | grep -q "\\"members\\":1"; do sleep 0.2; done\''
        )


def test_an_unknown_name_and_no_name_get_no_handshake(host: Host) -> None:
    for name in ("-servername other.rpc.lyftium.com", "-noservername"):
        done = host.run(f"openssl s_client -connect 127.0.0.1:8443 {name} </dev/null 2>&1")
        assert "unrecognized name" in done.stdout, done.stdout
        assert "BEGIN CERTIFICATE" not in done.stdout


def test_only_tls_1_2_and_1_3_with_forward_secrecy_and_http_2(host: Host) -> None:
    def shakes(options: str) -> bool:
        return bool(
            host.run(
                f"openssl s_client -connect 127.0.0.1:8443 -servername {NAME} {options} </dev/null 2>&1 | grep -q 'Cipher is [A-Z]*_*[A-Z0-9]'"
            ).rc
            == 0
            and "Cipher is (NONE)"
            not in host.run(
                f"openssl s_client -connect 127.0.0.1:8443 -servername {NAME} {options} </dev/null 2>&1"
            ).stdout
        )

    assert shakes("-tls1_3")
    assert shakes("-tls1_2")
    assert not shakes("-tls1_1 -cipher ALL@SECLEVEL=0")
    assert not shakes("-tls1_2 -cipher AES128-GCM-SHA256")
    version = host.check_output(f"curl {TO_EDGE} -o /dev/null -w '%{{http_version}}' -d '{BODY}' https://{NAME}:8443/")
    assert version == "2"


def test_a_caller_that_can_gets_the_post_quantum_hybrid_and_one_that_cannot_gets_x25519(host: Host) -> None:
    for offered, words in (
        ("X25519MLKEM768:X25519", "Negotiated TLS1.3 group: X25519MLKEM768\n"),
        ("X25519", "Temp Key: X25519, 253 bits\n"),
    ):
        done = host.run(
            f"openssl s_client -connect 127.0.0.1:8443 -servername {NAME} -tls1_3 -groups {offered} </dev/null 2>&1"
        )
        assert words in done.stdout, done.stdout


def test_a_session_is_resumed_without_a_ticket(host: Host) -> None:
    said = host.run(f"openssl s_client -connect 127.0.0.1:8443 -servername {NAME} -tls1_2 </dev/null 2>&1").stdout
    assert "TLS session ticket:" not in said
