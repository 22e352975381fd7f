"""Secrets are replaced by name: tried first, one consumer after the other, back where it fails, each on record, and nobody says a value.

The tests follow each other: what one leaves is where the next one starts.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab import ca, catalogue
from lab.checkout import Checkout
from tests import secrets_fleet as fleet
from tests.load import Load
from tests.plays import Play, play
from tests.waiting import journal, until

if TYPE_CHECKING:
    from testinfra.host import Host

AGENTS = ("analytics_engine", "strategy_engine")
DROP_IN = "/run/systemd/system/strategy_engine.service.d/fault.conf"


def rotate(name: str, *options: str, **variables: object) -> Play:
    return play(
        fleet.SCENARIO, "../../playbooks/rotate_secrets.yml", {**fleet.VARIABLES, "rotate": name, **variables}, *options
    )


def runs(host: Host) -> list[str]:
    """Which run each agent is in, by systemd's number of it."""
    shown: list[str] = host.check_output("systemctl show --value --property=InvocationID %s %s", *AGENTS).split()
    assert len(shown) == len(AGENTS)
    assert host.check_output("systemctl is-active %s %s", *AGENTS).split() == ["active", "active"]
    return shown


def record(host: Host) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.check_output("cat /var/log/secrets.jsonl").splitlines()]


def well(host: Host) -> set[str]:
    """What of databases and bus `mev doctor` finds well, the running agents' own word among it."""
    findings = json.loads(host.run("mev doctor --json").stdout)["findings"]
    wanted = ("bus", "database", *(f"{agent}'s bus" for agent in AGENTS))
    return {each["check"] for each in findings if each["well"] and each["check"].startswith(wanted)}


def written() -> int:
    """How many rows the ledger has."""
    return int(fleet.sql("SELECT count(*) FROM transitions"))


REFUSED = " refuses this agent: "
ALL_WELL = {"bus", "database ledger", "database performance", "strategy_engine's bus", "analytics_engine's bus"}


def served_by_edge(host: Host) -> str:
    """The SHA-256 of the certificate that callers of the chain are shown, in hex."""
    checkout = Checkout.here()
    name = next(each.host_name for each in catalogue.chains(checkout) if each.name == "ethereum")
    shown: str = host.check_output(
        "openssl s_client -connect 127.0.0.1:%s -servername %s < /dev/null 2> /dev/null | openssl x509 -noout -fingerprint -sha256",
        str(catalogue.edge_port(checkout)),
        name,
    )
    return shown.partition("=")[2].replace(":", "").lower()


@pytest.fixture(scope="module")
def passwords() -> tuple[str, str]:
    """The bus's password and the next one, which stands on the controller already."""
    before, after = fleet.SOURCE.read_text(), f"{secrets.token_hex(24)}\n"
    fleet.SOURCE.write_text(after)
    return before.strip(), after.strip()


def test_what_no_play_may_draw_anew_is_refused() -> None:
    done = rotate("signer_key,bus_password", "--check")
    assert done.code != 0
    assert (
        "rotate names signer_key; allowed: jwt, edge_certificate, database_password, bus_password, dns_credentials"
        in done.messages
    )


def test_check_mode_says_what_would_restart_and_changes_nothing(host: Host, passwords: tuple[str, str]) -> None:
    before = runs(host)
    done = rotate("bus_password", "--check", "--diff")
    assert done.code == 0, done.messages
    assert "bus_password would be replaced; analytics_engine, then strategy_engine would restart" in done.messages
    assert runs(host) == before
    assert host.check_output("cat %s", fleet.BUS) == passwords[0]


def test_a_password_that_the_server_does_not_take_reaches_no_agent(host: Host, passwords: tuple[str, str]) -> None:
    before = runs(host)
    done = rotate("bus_password", "-vvv", "--diff")
    assert done.code != 0
    assert "bus_password has its old value again: bus is not well with it" in done.messages
    assert [value for value in passwords if value in done.output] == []
    assert runs(host) == before
    assert host.check_output("cat %s", fleet.BUS) == passwords[0]
    assert (record(host)[-1]["secret"], record(host)[-1]["result"]) == ("bus_password", "rolled_back")


def test_an_agent_that_does_not_come_back_takes_both_back(host: Host, passwords: tuple[str, str]) -> None:
    fleet.redis(("AUTH", passwords[0]), ("ACL", "SETUSER", "default", f">{passwords[1]}"))
    digest = host.check_output("sha256sum %s", fleet.BUS).split()[0]
    # The engine starts with the password before only.
    host.check_output("mkdir -p $(dirname %s)", DROP_IN)
    host.check_output(
        "printf '[Service]\\nExecStartPre=/bin/sh -c \"sha256sum $CREDENTIALS_DIRECTORY/redis_password | grep -q %s\"\\n' > %s",
        digest,
        DROP_IN,
    )
    host.check_output("systemctl daemon-reload")
    try:
        done = rotate("bus_password")
    finally:
        host.check_output("rm %s && systemctl daemon-reload", DROP_IN)
    assert done.code != 0
    assert "bus_password has its old value again: strategy_engine did not start" in done.messages
    assert runs(host)
    assert host.check_output("cat %s", fleet.BUS) == passwords[0]
    assert record(host)[-1]["result"] == "rolled_back"
    assert host.check_output("fleet-secrets check > /dev/null && echo well") == "well"


def test_both_passwords_are_good_while_agents_go_to_the_new_ones(host: Host, passwords: tuple[str, str]) -> None:
    """The bus's and the database's."""
    former, following = fleet.DATABASE_SOURCE.read_text().strip(), f"mev_b:{secrets.token_hex(24)}"
    fleet.DATABASE_SOURCE.write_text(f"{following}\n")
    fleet.new_role(*following.split(":"))
    before = runs(host)
    done = rotate("bus_password,database_password", "-vvv", "--diff")
    assert done.code == 0, done.messages
    values = [*passwords, *(pair.partition(":")[2] for pair in (former, following))]
    assert [value for value in values if value in done.output] == []
    after = runs(host)
    assert set(before).isdisjoint(after)
    assert (host.check_output("cat %s", fleet.BUS), host.check_output("cat %s", fleet.DATABASE)) == (
        passwords[1],
        following,
    )
    # The old ones end at their servers, and nobody minds.
    fleet.redis(("AUTH", passwords[1]), ("ACL", "SETUSER", "default", f"<{passwords[0]}"))
    fleet.end_role("mev_a")
    assert until(lambda: well(host) == ALL_WELL)
    assert runs(host) == after
    # Rows go on coming in, by the new role.
    rows = written()
    assert until(lambda: written() > rows)
    assert {(each["secret"], each["result"], each["reason"]) for each in record(host)[-2:]} == {
        ("bus_password", "rotated", ""),
        ("database_password", "rotated", ""),
    }
    assert record(host)[-1]["by"].endswith(" as ops")
    told = journal(host, "-t fleet-secrets --lines=2")
    assert '"secret": "bus_password"' in told
    assert '"secret": "database_password"' in told


def test_an_agent_that_the_bus_refuses_says_so_and_does_not_start(host: Host) -> None:
    """The server has another password than the host: agents that run say so, one that starts ends with a sentence."""
    own = host.check_output("cat %s", fleet.BUS)
    other = secrets.token_hex(24)
    fleet.redis(
        ("AUTH", own), ("ACL", "SETUSER", "default", f"<{own}", f">{other}"), ("CLIENT", "KILL", "TYPE", "normal")
    )
    try:
        assert until(
            lambda: REFUSED in host.check_output("systemctl show --value --property=StatusText strategy_engine")
        )
        assert until(lambda: well(host) == {"database ledger", "database performance"})
        assert host.run("systemctl restart analytics_engine").rc != 0
        said = journal(host, "--unit=analytics_engine --lines=20")
        assert f"analytics_engine: redis://127.0.0.1:6379/0{REFUSED}" in said
    finally:
        fleet.redis(("AUTH", other), ("ACL", "SETUSER", "default", f">{own}", f"<{other}"))
    host.check_output("systemctl reset-failed analytics_engine; systemctl start analytics_engine")
    # The engine asks again by itself.
    assert until(lambda: well(host) == ALL_WELL)


def test_the_same_again_changes_nothing(host: Host) -> None:
    before = runs(host)
    done = rotate("bus_password")
    assert (done.code, done.changed) == (0, 0), done.messages
    assert runs(host) == before


def test_the_edge_serves_a_new_key_and_answers_meanwhile(host: Host, tmp_path: Path) -> None:
    checkout = Checkout.here()
    # Another certificate by the same authority, where no other scenario reads it.
    (tmp_path / ".lab" / "ca").mkdir(parents=True)
    for name in ("ca.crt", "ca.key"):
        shutil.copy(checkout.state / "ca" / name, tmp_path / ".lab" / "ca")
    ca.ensure_ca(Checkout(tmp_path))
    made = tmp_path / ".lab" / "ca"
    with Load(fleet.SCENARIO, "ethereum", rate=20) as load:
        done = rotate(
            "edge_certificate",
            nginx_certificate_source=str(made / "edge.crt"),
            nginx_certificate_key_source=str(made / "edge.key"),
        )
    assert done.code == 0, done.messages
    # On a machine that other work keeps busy, a node may be too late for a look: an answer, and none of the rotation's.
    assert load.sent > 0
    assert set(load.failures) <= {"status 503"}
    assert served_by_edge(host) == hashlib.sha256(ssl.PEM_cert_to_DER_cert((made / "edge.crt").read_text())).hexdigest()
    assert (record(host)[-1]["secret"], record(host)[-1]["result"]) == ("edge_certificate", "rotated")


def test_a_chain_s_secret_is_made_anew_on_the_host_and_on_record(host: Host) -> None:
    before = host.check_output("cat %s", fleet.JWT)
    # The only node of its pool.
    done = rotate("jwt", "-vvv", "--diff", node_upgrade_alone=["ethereum"])
    assert done.code == 0, done.messages
    after = host.check_output("cat %s", fleet.JWT)
    assert before != after
    assert [value for value in (before, after) if value in done.output] == []
    last = record(host)[-1]
    assert (last["secret"], last["chain"], last["result"]) == ("jwt", "ethereum", "rotated")
    assert host.check_output("fleet-secrets check > /dev/null && echo well") == "well"


def test_a_caller_has_two_keys_for_a_while(host: Host, tmp_path: Path) -> None:
    def api_keys(**variables: object) -> Play:
        return play(fleet.SCENARIO, "../../playbooks/api_keys.yml", {**fleet.VARIABLES, **variables})

    first, second = tmp_path / "first.key", tmp_path / "second.key"
    assert api_keys(api_keys_create={"name": "acme", "tier": "partner"}, api_keys_file=str(first)).code == 0
    done = api_keys(api_keys_rotate={"name": "acme", "overlap_days": 7}, api_keys_file=str(second))
    assert done.code == 0, done.messages
    assert first.read_text() != second.read_text()
    assert second.stat().st_mode & 0o777 == 0o600
    old, new = json.loads(host.check_output("edge-keys list acme --json"))
    assert (old["tier"], new["tier"]) == ("partner", "partner")
    now = int(host.check_output("date +%s"))
    assert sorted(round((each["not_after"] - now) / 86400) for each in (old, new)) == [7, 365]
    refused = api_keys(api_keys_rotate={"name": "acme"}, api_keys_file=str(tmp_path / "third.key"))
    assert "acme has 2 valid keys; allowed: one" in refused.messages
    assert api_keys(api_keys_revoke={"name": "acme"}).code == 0
