"""The lab's decisions, apart from the machine that carries them out."""

from __future__ import annotations

import io
import os
import resource
import tarfile
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from lab import podman, process, status
from lab.ca import CERTIFICATES, ensure_ca
from lab.catalogue import main_unit
from lab.checkout import Checkout
from lab.errors import LabError
from lab.hosts import HostFile, tar_of
from lab.image.build import Recipe, mmdebstrap_command
from lab.network import FIXED, mac_address, pick_address, subnet_of
from lab.world.registry import layouts

SUBNET = IPv4Network("10.89.7.0/24")


def test_checkouts_at_two_paths_share_no_name(tmp_path: Path) -> None:
    first, second = Checkout(tmp_path / "a"), Checkout(tmp_path / "b")
    assert first.prefix != second.prefix
    assert first.container("mev1") != second.container("mev1")


def test_the_lab_s_own_hosts_keep_their_addresses() -> None:
    for name, position in FIXED.items():
        assert pick_address(name, SUBNET, [SUBNET[20]]) == SUBNET[position]


def test_a_scenario_gets_the_lowest_free_address_beyond_the_fixed_ones() -> None:
    assert pick_address("nginx", SUBNET, [SUBNET[20], SUBNET[22]]) == SUBNET[21]


def test_a_full_network_says_what_to_do() -> None:
    with pytest.raises(LabError, match=r"10\.89\.7\.0/24 has no address left for nginx"):
        pick_address("nginx", SUBNET, list(SUBNET.hosts()))


def test_subnet_is_the_ipv4_one() -> None:
    inspected = [{"subnets": [{"subnet": "fd00::/64"}, {"subnet": "10.89.7.0/24", "gateway": "10.89.7.1"}]}]
    assert subnet_of(inspected) == SUBNET


def test_hardware_address_follows_from_the_address_so_that_neighbours_need_not_relearn_it() -> None:
    assert mac_address("10.89.7.11") == "02:42:0a:59:07:0b"


def test_image_name_changes_with_every_ingredient_and_only_then() -> None:
    recipe = Recipe.read()
    assert recipe.tag("bookworm") == Recipe.read().tag("bookworm")
    assert replace(recipe, packages=(*recipe.packages, "htop")).tag("bookworm") != recipe.tag("bookworm")
    assert replace(recipe, masked_units=()).tag("bookworm") != recipe.tag("bookworm")


def test_unknown_suite_is_refused_with_those_there_are() -> None:
    with pytest.raises(LabError, match=r"'sid' is not one that recipe\.toml offers: bookworm, trixie"):
        Recipe.read().tag("sid")


def test_image_is_built_from_the_machine_s_mirror_or_mmdebstrap_s_default() -> None:
    recipe = Recipe.read()
    assert mmdebstrap_command(recipe, "trixie", [])[-2:] == ["trixie", "-"]
    assert mmdebstrap_command(recipe, "trixie", ["deb http://mirror.test/debian trixie main"])[-1].startswith("deb ")


def test_fallback_settings_stay_within_this_process_s_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert 'default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]' in podman.fallback_settings("runc")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    assert '"nofile=10000:10000"' in podman.fallback_settings("crun")


def test_sudo_carries_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert process.as_root(["podman", "ps"], {"CONTAINERS_CONF": "/x"}) == [
        "sudo",
        "env",
        "CONTAINERS_CONF=/x",
        "podman",
        "ps",
    ]


def test_a_failing_program_is_one_sentence_with_its_last_words() -> None:
    with pytest.raises(LabError, match=r"sh -c .* failed: second"):
        process.run(["sh", "-c", "echo first >&2; echo second >&2; exit 3"])


def test_a_missing_program_is_named() -> None:
    with pytest.raises(LabError, match="no-such-program is not installed"):
        process.run(["no-such-program"])


def test_host_files_keep_mode_and_owner() -> None:
    packed = tar_of({"/home/ops/key": HostFile(b"secret", 0o600, 1000)})
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        entry = archive.getmember("home/ops/key")
    assert (entry.mode, entry.uid, entry.gid, entry.size) == (0o600, 1000, 1000, 6)


def test_authority_signs_what_it_says_and_is_made_once(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    root_path = ensure_ca(checkout)
    root = x509.load_pem_x509_certificate(root_path.read_bytes())
    before = root_path.read_bytes()
    assert ensure_ca(checkout).read_bytes() == before
    for name, dns_names in CERTIFICATES.items():
        leaf = x509.load_pem_x509_certificate((tmp_path / f".lab/ca/{name}.crt").read_bytes())
        key = root.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert leaf.signature_hash_algorithm is not None
        key.verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(leaf.signature_hash_algorithm))
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == list(dns_names)
        assert (tmp_path / f".lab/ca/{name}.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("parts", "unit"),
    [
        ({"base": "pair", "base-execution": "execution", "base-consensus": "consensus"}, "base"),
        ({"polygon-heimdall": "consensus", "polygon-bor": "execution"}, "polygon-bor"),
    ],
)
def test_a_chain_s_main_unit_is_its_pair_or_its_execution_client(parts: dict[str, str], unit: str) -> None:
    assert main_unit(parts) == unit


def test_a_unit_that_does_not_exist_is_absent_and_not_inactive() -> None:
    assert status.unit_state("LoadState=not-found\nActiveState=inactive") == "absent"
    assert status.unit_state("LoadState=loaded\nActiveState=activating") == "activating"


def test_image_layouts_are_found_by_repository_and_tag(tmp_path: Path) -> None:
    layout = tmp_path / "images" / "op-node" / "v1.0.0"
    layout.mkdir(parents=True)
    (layout / "index.json").write_text("{}")
    assert list(layouts(tmp_path)) == [("images/op-node", "v1.0.0", layout)]
