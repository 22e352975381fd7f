"""What certbot prints of a failure becomes one sentence; what is asked for decides whether it is issued again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plugins import load_plugin

edge_certbot = load_plugin("certbot", "files", "edge_certbot")

WRONG_KEY = """\
Saving debug log to /var/log/certbot/letsencrypt.log
Renewing an existing certificate for *.rpc.example.com and rpc.example.com
Encountered exception during recovery: certbot.errors.PluginError: Encountered error deleting TXT record: The peer didn't like the signature we sent
Encountered error adding TXT record: The peer didn't like the signature we sent
Ask for help or search for solutions at https://community.letsencrypt.org. See the logfile /var/log/certbot/letsencrypt.log or re-run Certbot with -v for more details.
"""
WRONG_RECORD = """\
Certbot failed to authenticate some domains (authenticator: dns-rfc2136). The Certificate Authority reported these problems:
  Domain: rpc.example.com
  Type:   unauthorized
  Detail: Incorrect TXT record found at _acme-challenge.rpc.example.com

Hint: The Certificate Authority failed to verify the DNS TXT records created by --dns-rfc2136.

Some challenges have failed.
Ask for help or search for solutions at https://community.letsencrypt.org.
"""

ROUTE53 = """\
Saving debug log to /var/log/certbot/letsencrypt.log
Requesting a certificate for *.rpc.example.com and rpc.example.com
An error occurred (AccessDenied) when calling the ListHostedZones operation: User is not authorized to perform this.
To use certbot-dns-route53, configure credentials as described at https://boto3.readthedocs.io/ and add the necessary permissions for Route53 access.
Ask for help or search for solutions at https://community.letsencrypt.org.
"""


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            ROUTE53,
            "An error occurred (AccessDenied) when calling the ListHostedZones operation: User is not authorized to perform this",
        ),
        (WRONG_KEY, "Encountered error adding TXT record: The peer didn't like the signature we sent"),
        (WRONG_RECORD, "Incorrect TXT record found at _acme-challenge.rpc.example.com"),
        ("", "it gives no reason"),
        ("a line\x1b[31m that is coloured.\n", "a line[31m that is coloured"),
        ("x" * 5000, "x" * 300),
    ],
)
def test_the_reason_is_one_bounded_line(output: str, reason: str) -> None:
    assert edge_certbot.reason_of(output) == reason


def settings(tmp_path: Path, **given: object) -> Any:
    told = {
        "user": "certificates",
        "certbot": ["certbot"],
        "account": [],
        "issue": ["--domain=example.com"],
        "environment": {},
        "server": "https://acme.example.com/dir",
        "rehearsal_server": "",
        "lineage": tmp_path,
        "issued": tmp_path / "issued",
        "pair": tmp_path / "edge.pem",
        "log": tmp_path / "log",
    }
    return edge_certbot.Settings(**{**told, **given})


def test_another_name_or_server_is_not_what_was_issued(tmp_path: Path) -> None:
    known = settings(tmp_path)
    (tmp_path / "fullchain.pem").touch()
    assert not known.is_issued
    (tmp_path / "issued").write_text(known.digest)
    assert known.is_issued
    assert not settings(tmp_path, issue=["--domain=other.example.com"]).is_issued
    assert not settings(tmp_path, server="https://other.example.com/dir").is_issued
