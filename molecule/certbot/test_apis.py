"""Cloudflare's and Route 53's plugins themselves, with the command line and the credentials that the role gives them, against stand-ins of the
providers' APIs that write to BIND: pebble issues only where the right record is there.

It comes before the other files of the scenario, which leave the host with other names and another key of BIND."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests import dns_apis
from tests.certificates import CREDENTIALS, served, shown, status_at_authority, words_of
from tests.contract.rendering import rendered

if TYPE_CHECKING:
    from testinfra.host import Host

HERE = Path(__file__).parent
SETTINGS, ISSUED = "/etc/certbot/edge.json", "/var/lib/certbot/issued"
API = "https://localhost:14100"
CREDENTIALS_OF = {
    "cloudflare": f"dns_cloudflare_api_token = {dns_apis.TOKEN}\n",
    "route53": f"[default]\naws_access_key_id = {dns_apis.AWS_ID}\naws_secret_access_key = {dns_apis.AWS_SECRET}\nregion = us-east-1\n",
}
APIS = {"cloudflare": f"{API}/client/v4", "route53": API}


def settings(**given: object) -> dict[str, Any]:
    """What the role writes down for certbot, with the scenario's variables and these."""
    play = yaml.safe_load((HERE / "converge.yml").read_text())[-1]
    variables = {name: value for name, value in play["vars"].items() if name.startswith("certbot_")}
    told: dict[str, Any] = rendered(
        "_certbot_settings", {**variables, "catalogue_edge_domain": "rpc.lyftium.com", **given}
    )
    return told


def write(host: Host, path: str, text: str) -> None:
    host.check_output(f"printf %%s %s > {path}", text)


@pytest.fixture(scope="module")
def apis(host: Host) -> Iterator[None]:
    """Both APIs on the host, with the certificate that its trust store knows; what the role wrote is there again afterwards."""
    kept = (SETTINGS, CREDENTIALS, ISSUED)
    host.check_output("rm -rf /run/dns && mkdir /run/dns")
    host.check_output("umask 0077; grep -Pzo '(?s)key \"[^}]*\\};' /etc/bind/named.conf | tr -d '\\0' > /run/dns/key")
    host.check_output("cat > /run/dns/apis.py <<'EOF'\n" + Path(dns_apis.__file__).read_text() + "\nEOF")
    for path in kept:
        host.check_output(f"cp -p {path} {path}.kept")
    try:
        yield
    finally:
        host.run("systemctl stop dns-apis")
        for path in kept:
            host.check_output(f"mv {path}.kept {path}")
        host.run("systemctl reset-failed certbot")


def use(host: Host, plugin: str, credentials: str) -> None:
    host.run("systemctl stop dns-apis")
    host.check_output(
        "systemd-run --quiet --collect --unit=dns-apis python3 /run/dns/apis.py 14100 /usr/local/share/ca-certificates/pebble-api.crt "
        "/etc/ssl/private/pebble.key /run/dns/key /run/dns/report.json"
    )
    host.check_output("timeout 20 sh -c 'until ss -Hltn | grep -q :14100; do sleep 0.2; done'")
    write(host, SETTINGS, json.dumps(settings(certbot_dns_plugin=plugin, certbot_dns_api=APIS[plugin])))
    write(host, CREDENTIALS, credentials)


def report(host: Host) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(host.file("/run/dns/report.json").content_string)
    return told


def issue(host: Host, plugin: str) -> list[str]:
    """Have a certificate ordered through a provider's API; the most texts that stood there at once, none of which stays."""
    before = shown(host)["serial"]
    use(host, plugin, CREDENTIALS_OF[plugin])
    write(host, ISSUED, "another")
    done = host.run("systemctl start certbot")
    assert done.rc == 0, (words_of(host, "certbot"), report(host))
    after = shown(host)["serial"]
    assert after != before
    assert (served(host), status_at_authority(host, after)) == (after, "Valid")
    told = report(host)
    assert told["problems"] == []
    assert {api for api, _, _ in told["records"]} == {plugin}
    assert told["records"][-1] == [plugin, "delete", []], told
    assert host.check_output("dig +short @127.0.0.1 TXT _acme-challenge.rpc.lyftium.com") == ""
    most: list[str] = max((texts for _, _, texts in told["records"]), key=len)
    return most


def test_what_is_rendered_here_is_what_the_role_wrote(host: Host) -> None:
    assert json.loads(host.file(SETTINGS).content_string) == settings()


@pytest.mark.usefixtures("apis")
@pytest.mark.parametrize("plugin", ["cloudflare", "route53"])
def test_the_plugin_writes_and_removes_the_records_and_a_certificate_is_issued(host: Host, plugin: str) -> None:
    # The wildcard and the name itself are proved by two texts of one name. Whatever it is told, pebble takes one name's earlier proof in a
    # hundred again; of three orders one is proved whole.
    assert any(len(issue(host, plugin)) == 2 for _ in range(3))


@pytest.mark.usefixtures("apis")
def test_credentials_that_the_provider_does_not_take_get_one_sentence(host: Host) -> None:
    before = shown(host)["serial"]
    use(host, "route53", CREDENTIALS_OF["route53"].replace(dns_apis.AWS_SECRET, "x" * 40))
    write(host, ISSUED, "another")
    assert host.run("systemctl start certbot").rc != 0
    said = [line for line in words_of(host, "certbot").splitlines() if line.startswith("edge-certbot: ")]
    assert len(said) == 1
    assert "An error occurred (SignatureDoesNotMatch) when calling the ListHostedZones operation" in said[0]
    assert (shown(host)["serial"], served(host)) == (before, before)
