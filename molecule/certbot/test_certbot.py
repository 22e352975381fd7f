"""A certificate from a real authority (pebble) over real DNS (BIND, updates signed by TSIG): issued, renewed, rotated, refused."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from lab.checkout import Checkout
from tests import chain_checks as checks
from tests import secrets_fleet as fleet
from tests.certificates import CREDENTIALS, NAME, PAIR, SECURITY, clients, served, shown, status_at_authority, words_of
from tests.plays import Play, play

if TYPE_CHECKING:
    from testinfra.backend.base import CommandResult
    from testinfra.host import Host

LINEAGE = f"{SECURITY}/certbot/renewal/edge.conf"
ROTATE = "../../playbooks/rotate_certificates.yml"
SECONDS = 60


def rotate(**variables: object) -> Play:
    return play("certbot", ROTATE, variables)


def edge(*options: str, **variables: object) -> Play:
    """The edge alone, as converge.yml has it but for these variables; what is below it stays as it is."""
    converge = yaml.safe_load(Path(__file__).with_name("converge.yml").read_text())
    return play("certbot", "../../playbooks/edge.yml", {**converge[-1]["vars"], **variables}, *options)


def make_due(host: Host) -> None:
    """Have certbot take the certificate for one that is about to end."""
    host.check_output(f"sed -i '/renew_before_expiry/d; 1i renew_before_expiry = 200 days' {LINEAGE}")


def test_the_first_certificate_is_the_authority_s_and_for_the_wildcard(host: Host) -> None:
    told = shown(host)
    assert set(told["names"]) == {"*.rpc.lyftium.com", "rpc.lyftium.com"}
    assert "Pebble" in told["issuer"]
    assert served(host) == told["serial"]
    assert status_at_authority(host, told["serial"]) == "Valid"
    answer = host.run(f"curl -s --resolve {NAME}:8443:127.0.0.1 -o /dev/null -w '%{{http_code}}' https://{NAME}:8443/")
    assert answer.rc == 0, answer.stderr


def test_keys_and_credentials_are_for_their_owners_alone(host: Host) -> None:
    pair = host.file(PAIR)
    assert (pair.user, pair.group, pair.mode) == ("certificates", "www-data", 0o640)
    directory = host.file(str(Path(PAIR).parent))
    assert (directory.user, directory.group, directory.mode) == ("certificates", "www-data", 0o2750)
    for path, mode in (
        (CREDENTIALS, 0o600),
        (f"{SECURITY}/certbot", 0o700),
        (f"{SECURITY}/certbot/archive/edge/privkey1.pem", 0o600),
    ):
        assert (host.file(path).user, host.file(path).mode) == ("certificates", mode), path
    secret = host.check_output(f"sed -n 's/^dns_rfc2136_secret = //p' {CREDENTIALS}")
    # Not as an argument: the shell's own words would be in the journal.
    assert host.run(f"journalctl --quiet --grep \"$(sed -n 's/^dns_rfc2136_secret = //p' {CREDENTIALS})\"").stdout == ""
    assert secret not in host.check_output("cat /var/log/certbot/*")


def test_units_are_confined_and_timers_wait(host: Host) -> None:
    for unit in ("certbot", "edge-certificate"):
        checks.is_confined(host, unit)
        state = host.check_output("systemctl show -p ActiveState -p UnitFileState %s.timer", unit).split()
        assert state == ["ActiveState=active", "UnitFileState=enabled"]
    timer = host.check_output("systemctl cat certbot.timer")
    assert "RandomizedDelaySec=21600" in timer
    assert "OnCalendar=*-*-* 03,15:00:00 UTC" in timer


def test_what_is_not_due_is_not_renewed(host: Host) -> None:
    before = shown(host)["serial"]
    host.check_output("systemctl start certbot")
    assert shown(host)["serial"] == before


@contextmanager
def brought_forward(host: Host, timer: str) -> Iterator[None]:
    """A timer goes off a second from now, and by its own calendar again after the context."""
    directory = f"/run/systemd/system/{timer}.d"
    # After what molecule/certbot/conftest.py has put there.
    lines = ("[Timer]", "OnCalendar=", "RandomizedDelaySec=0", "AccuracySec=100ms", "OnActiveSec=1s")
    host.check_output(f"mkdir -p {directory} && printf '%s\\n' {' '.join(lines)} > {directory}/soon.conf")
    host.check_output(f"systemctl daemon-reload && systemctl restart {timer}")
    try:
        yield
    finally:
        host.check_output(f"rm {directory}/soon.conf && systemctl daemon-reload && systemctl restart {timer}")


def test_a_renewal_by_the_timer_drops_no_connection(host: Host) -> None:
    before, workers = shown(host)["serial"], host.check_output("pgrep -x nginx")
    run = host.check_output("systemctl show -p InvocationID --value certbot")
    make_due(host)
    try:
        with clients(host) as saw, brought_forward(host, "certbot.timer"):
            host.check_output(
                'timeout 60 sh -c \'until test "$(systemctl show -p InvocationID --value certbot)" != "$0" '
                "-a \"$(systemctl show -p ActiveState --value certbot)\" = inactive; do sleep 0.2; done' '%s'",
                run,
            )
            assert host.check_output("systemctl show -p Result --value certbot") == "success"
            after = shown(host)["serial"]
            assert after != before
            assert served(host) == after
    finally:
        host.check_output(f"sed -i '/renew_before_expiry/d' {LINEAGE}")
    for kind, told in saw.items():
        assert told["problems"] == [], (kind, told)
        assert (told["connections"], told["answers"] > 10) == (1, True), (kind, told)
    # Neither a restart nor a reload.
    assert host.check_output("pgrep -x nginx") == workers
    # It was not compromised, and lasts: a renewal revokes nothing.
    assert status_at_authority(host, before) == "Valid"


def test_the_unit_renews_what_the_authority_asks_to_be_renewed_and_not_before_it_is_time_to_ask(host: Host) -> None:
    """By ARI: pebble asks for the renewal of what is revoked, and its certificates name no OCSP by which certbot would see that itself."""
    before = shown(host)["serial"]
    host.check_output("systemctl start certbot")
    assert shown(host)["serial"] == before
    assert host.file(LINEAGE).contains("ari_retry_after")
    assert "OCSP" not in host.check_output(f"openssl x509 -in {PAIR} -noout -text")
    account = " ".join(json.loads(host.file("/etc/certbot/edge.json").content_string)["account"])
    host.check_output(
        "cd / && sudo -u certificates env REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt /opt/certbot/current/bin/certbot revoke "
        f"--cert-path {PAIR} --key-path {PAIR} --no-delete-after-revoke --server https://localhost:14000/dir --non-interactive {account}"
    )
    # It has said for how long its advice holds.
    host.check_output("systemctl start certbot")
    assert shown(host)["serial"] == before
    host.check_output(f"sed -i 's/^ari_retry_after = .*/ari_retry_after = 2026-01-01T00:00:00/' {LINEAGE}")
    host.check_output("systemctl start certbot")
    after = shown(host)["serial"]
    assert after != before
    assert (served(host), status_at_authority(host, before)) == (after, "Revoked")


def test_a_rotation_is_told_by_check_mode_and_nothing_done(host: Host) -> None:
    before = shown(host)["serial"]
    done = play("certbot", ROTATE, {}, "--check")
    assert done.code == 0, done.output
    assert f"would replace and revoke {before}" in done.messages
    assert shown(host)["serial"] == before


def test_a_rotation_has_a_new_key_revokes_the_old_certificate_and_drops_no_connection(host: Host) -> None:
    before, key = shown(host)["serial"], host.check_output(f"openssl pkey -in {PAIR} -pubout")
    with clients(host) as saw:
        done = rotate(certbot_revocation_reason="keycompromise")
        assert done.code == 0, done.output
    after = shown(host)["serial"]
    assert after != before
    assert served(host) == after
    assert host.check_output(f"openssl pkey -in {PAIR} -pubout") != key
    assert (status_at_authority(host, before), status_at_authority(host, after)) == ("Revoked", "Valid")
    for kind, told in saw.items():
        assert (told["problems"], told["connections"]) == ([], 1), (kind, told)
    last = [
        json.loads(line) for line in host.check_output("tail -n 2 /var/log/certbot/certificates.jsonl").splitlines()
    ]
    assert [(line["action"], line["serial"]) for line in last] == [("rotated", after), ("revoked", before)]


def test_a_new_certificate_that_is_not_served_goes_back_and_the_old_one_is_not_revoked(host: Host) -> None:
    before = shown(host)["serial"]
    host.check_output("systemctl kill --signal=STOP nginx")
    try:
        done = rotate()
    finally:
        host.check_output("systemctl kill --signal=CONT nginx")
    assert done.code != 0
    assert "is not served and the one before is back: a handshake" in done.messages
    assert (shown(host)["serial"], served(host)) == (before, before)
    assert status_at_authority(host, before) == "Valid"
    # The next run serves what was issued.
    host.check_output("systemctl start certbot")
    assert served(host) == shown(host)["serial"] != before


def test_a_wrong_key_for_dns_gets_one_sentence_and_the_old_certificate_serves_on(host: Host) -> None:
    before = shown(host)["serial"]
    host.check_output(f"cp -p {CREDENTIALS} {CREDENTIALS}.kept")
    host.check_output(
        f"sed -i 's/^dns_rfc2136_secret = .*/dns_rfc2136_secret = d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=/' {CREDENTIALS}"
    )
    make_due(host)
    try:
        assert host.run("systemctl start certbot").rc != 0
        said = [line for line in words_of(host, "certbot").splitlines() if line.startswith("edge-certbot: ")]
        assert len(said) == 1, words_of(host, "certbot")
        assert "certbot certonly failed: " in said[0]
        assert "The peer didn't like the signature we sent" in said[0]
        assert host.check_output("systemctl show -p ActiveState --value certbot") == "failed"
    finally:
        host.check_output(f"mv {CREDENTIALS}.kept {CREDENTIALS}")
        host.check_output(f"sed -i '/renew_before_expiry/d' {LINEAGE}; systemctl reset-failed certbot")
    assert (shown(host)["serial"], served(host)) == (before, before)


def test_dns_takes_another_key_and_then_the_old_one_no_more(host: Host) -> None:
    """Both keys are good at the name server until the hosts have the new one, by which the next certificate is issued."""
    source = Checkout.here().state / "secrets/certbot-dns.ini"
    former, key = fleet.dns_key_name(source), fleet.new_dns_key("certbot")
    source.write_text(key.ini())
    variables = {
        "rotate": "dns_credentials",
        "certbot_challenge": "dns-01",
        "certbot_dns_credentials_source": str(source),
    }
    done = play("certbot", "../../playbooks/rotate_secrets.yml", variables, "-vvv", "--diff")
    assert done.code == 0, done.output
    assert "dns_credentials is replaced; nothing restarted" in done.messages
    assert key.secret not in done.output
    assert host.check_output("cat %s", CREDENTIALS) == key.ini().strip()
    assert (host.file(CREDENTIALS).user, host.file(CREDENTIALS).mode) == ("certificates", 0o600)
    assert json.loads(host.check_output("tail -n 1 /var/log/secrets.jsonl"))["result"] == "rotated"
    fleet.end_dns_key(former, "certbot")
    before = shown(host)["serial"]
    make_due(host)
    try:
        host.check_output("systemctl start certbot")
    finally:
        host.check_output(f"sed -i '/renew_before_expiry/d' {LINEAGE}")
    assert served(host) == shown(host)["serial"] != before


def made(days_before: int, days_after: int, names: tuple[str, ...] = ("*.rpc.lyftium.com",)) -> tuple[str, str]:
    """A certificate of the lab's own authority, with a lifetime of one's choice, and its key; PEM."""
    directory = Checkout.here().state / "ca"
    root = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    root_key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=days_before))
        .not_valid_after(now + dt.timedelta(days=days_after))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=True)
        # Python 3.13 of Debian 13 holds the form of RFC 5280 strictly.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), secret.decode()


def write(host: Host, certificate: str, key: str) -> None:
    host.check_output("umask 0077; mkdir -p /root/made")
    host.check_output("printf %%s %s > /root/made/crt; printf %%s %s > /root/made/key", certificate, key)


def install(host: Host) -> CommandResult:
    return host.run("edge-certificate install --certificate /root/made/crt --key /root/made/key")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("expired", "certificate has expired"),
        ("other name", "Hostname mismatch"),
        ("other key", "its key is another's"),
        ("no key", "holds no unencrypted private key"),
        ("nothing", "holds no certificate"),
    ],
)
def test_a_certificate_that_callers_would_not_take_is_refused(host: Host, what: str, words: str) -> None:
    before = shown(host)["serial"]
    certificate, key = (
        made(90, -1) if what == "expired" else made(1, 89, ("example.com",)) if what == "other name" else made(1, 89)
    )
    if what == "other key":
        key = made(1, 89)[1]
    write(host, "" if what == "nothing" else certificate, "" if what == "no key" else key)
    done = install(host)
    assert done.rc == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (shown(host)["serial"], served(host)) == (before, before)


def test_a_certificate_near_its_end_fails_the_check_and_says_so(host: Host) -> None:
    state = "/var/lib/edge-certificate/edge_certificate"
    host.check_output("systemctl start edge-certificate")
    assert json.loads(host.file(f"{state}.json").content_string)["served"] is True
    assert "edge_certificate_served 1" in host.file(f"{state}.prom").content_string
    write(host, *made(80, 10))
    assert install(host).rc == 0
    try:
        assert host.run("systemctl start edge-certificate").rc != 0
        assert "less than a third of its lifetime is left" in words_of(host, "edge-certificate")
        told = json.loads(host.file(f"{state}.json").content_string)
        assert 0 < told["lifetime_left"] < 1 / 3
        assert (
            f"edge_certificate_not_after_seconds {stamp(told['not_after'])}"
            in host.file(f"{state}.prom").content_string
        )
    finally:
        host.check_output("edge-certificate back")
    host.check_output("systemctl start edge-certificate")
    assert served(host) == shown(host)["serial"]


def stamp(moment: str) -> int:
    return int(dt.datetime.fromisoformat(moment).timestamp())


def test_an_existing_certificate_is_imported_and_another_run_changes_nothing(host: Host) -> None:
    """On a host as an earlier release left it, with two files where nothing was served before."""
    directory = Checkout.here().state / "ca"
    kept, former = Path(PAIR).with_name("previous.pem"), f"{SECURITY}/ssl_keys/edge"
    host.check_output(
        f"cd {SECURITY}/ssl_keys && openssl x509 -in {kept} -out edge.crt && openssl pkey -in {kept} -out edge.key "
        f"&& chown root:www-data edge.key && chmod 0640 edge.key && rm {kept}"
    )
    old = host.check_output(f"openssl x509 -in {former}.crt -noout -serial")
    host.check_output(f"edge-certificate retire --certificate {former}.crt --key {former}.key --dry-run")
    assert host.file(f"{former}.crt").exists
    assert host.file(f"{former}.key").exists
    host.check_output(f"edge-certificate retire --certificate {former}.crt --key {former}.key")
    assert host.run(f"ls {former}.crt {former}.key").stdout == ""
    assert host.check_output(f"openssl x509 -in {kept} -noout -serial") == old
    assert (host.file(str(kept)).user, host.file(str(kept)).mode) == ("certificates", 0o640)
    issued = shown(host)["serial"]
    own = x509.load_pem_x509_certificate((directory / "edge.crt").read_bytes()).serial_number
    done = edge(certbot_challenge="none")
    assert done.code == 0, done.output
    assert int(served(host), 16) == own
    again = edge(certbot_challenge="none")
    assert (again.code, again.changed) == (0, 0), again.output
    # And the authority's again.
    assert edge().code == 0
    assert served(host) == issued


def test_a_single_name_is_proved_by_http(host: Host) -> None:
    done = edge(certbot_challenge="http-01", certbot_names=[NAME])
    assert done.code == 0, done.output
    assert shown(host)["names"] == [NAME]
    assert served(host) == shown(host)["serial"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"certbot_terms_agreed": False}, "certbot_terms_agreed is false in the inventory; allowed: true"),
        (
            {"certbot_challenge": "http-01", "certbot_names": ["*.rpc.lyftium.com"]},
            "allowed: names without a wildcard, which needs dns-01",
        ),
        ({"certbot_dns_credentials_source": ""}, "certbot_dns_credentials_source is not set in the inventory"),
    ],
)
def test_bad_input_gets_one_sentence_and_changes_nothing(host: Host, given: dict[str, object], words: str) -> None:
    before = shown(host)["serial"]
    done = edge(**given)
    assert done.code != 0
    assert words in done.messages
    assert shown(host)["serial"] == before
