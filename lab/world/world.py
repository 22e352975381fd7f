"""Have the world up: its container, its files, its chains seeded and its trader at work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab import hosts, secrets, ssh
from lab.ca import ensure_ca
from lab.evm import chains, npm, seed
from lab.hosts import HostFile, ensure_host
from lab.progress import step
from lab.standins.build import build_all
from lab.world import registry

if TYPE_CHECKING:
    from lab.checkout import Checkout
    from lab.evm.npm import Modules

NAME = "world"
PINS = "inventories/lab/group_vars/all/pins.yml"
DEPLOYMENT = "inventories/lab/group_vars/all/deployment.yml"
_HERE = Path(__file__).parent
_NATIVE_FOR_SIGNER_WEI = 1000 * 10**18
"""What the engine's signer is given on each chain: 1,000 coins."""


def ensure_world(checkout: Checkout) -> bool:
    """Have mirror, registry and seeded chains up; return whether the world had to be made or started."""
    with checkout.locked("world"):
        modules = _modules(checkout)
        for part in ("mirror", registry.LAYOUTS, "evm", "world/evm", "world/registry"):
            (checkout.state / part).mkdir(parents=True, exist_ok=True)
        with step("packing stand-in clients as upstream packs the real ones"):
            build_all(checkout.state / "mirror", checkout.root / PINS, checkout.state / registry.LAYOUTS)
        changed = ensure_host(checkout, NAME, files=_files(checkout, modules), options=_mounts(checkout, modules))
        registry.publish_all(checkout)
        _seed(checkout, modules)
        # Skipped at boot as long as there is no deployment; a service that runs already is left alone.
        ssh.run_on(checkout, NAME, "sudo", "systemctl", "start", "trader.service")
    return changed


def chain_urls(checkout: Checkout) -> dict[str, str]:
    """Return the HTTP URL of each chain, as this machine reaches it."""
    address = hosts.known(checkout)[NAME].address
    return {name: f"http://{address}:{chain.port}" for name, chain in chains.load().items()}


def _modules(checkout: Checkout) -> Modules:
    with step("npm packages of the chains"):
        return npm.install(checkout.state / "npm")


def _seed(checkout: Checkout, modules: Modules) -> None:
    with step("contracts, pools and capital on the chains"):
        deployment = seed.seed(
            chain_urls(checkout), modules, fund={secrets.signer_address(checkout): _NATIVE_FOR_SIGNER_WEI}
        )
    deployment.write(checkout.state / "evm" / "deployment.json")
    seed.write_vars(deployment, checkout.root / DEPLOYMENT, list(chains.load()))


def _files(checkout: Checkout, modules: Modules) -> dict[str, HostFile]:
    ensure_ca(checkout)
    ca = checkout.state / "ca"
    anvil = str(modules.anvil.relative_to(modules.directory))
    units = [
        "nginx.service",
        "docker-registry.service",
        "trader.service",
        *(f"evm@{name}.service" for name in chains.load()),
    ]
    files = {
        "/etc/nginx/nginx.conf": HostFile((_HERE / "nginx.conf").read_bytes()),
        "/etc/nginx/mirror.crt": HostFile((ca / "mirror.crt").read_bytes()),
        "/etc/nginx/mirror.key": HostFile((ca / "mirror.key").read_bytes(), 0o600),
        "/etc/docker/registry/config.yml": HostFile((_HERE / "registry.yml").read_bytes()),
        # The directory is the machine's, mounted: systemd gives it to the registry's user.
        "/etc/systemd/system/docker-registry.service.d/world.conf": HostFile(
            b"[Service]\nStateDirectory=docker-registry\n"
        ),
        "/etc/systemd/system/evm@.service": HostFile(
            (_HERE / "evm@.service").read_text().replace("@ANVIL@", anvil).encode()
        ),
        "/etc/systemd/system/trader.service": HostFile((_HERE / "trader.service").read_bytes()),
        "/etc/systemd/system/multi-user.target.d/world.conf": HostFile(f"[Unit]\nWants={' '.join(units)}\n".encode()),
        # A binary that changes in the mounted directory has to start anew.
        "/opt/world/npm-packages": HostFile((modules.directory / "installed").read_bytes()),
    }
    package = _HERE.parent
    programs = [
        package / "__init__.py",
        package / "errors.py",
        *(package / "evm").glob("*.py"),
        package / "evm" / "chains.json",
    ]
    for path in programs:
        files[f"/opt/world/lab/{path.relative_to(package)}"] = HostFile(path.read_bytes())
    return files


def _mounts(checkout: Checkout, modules: Modules) -> list[str]:
    state = checkout.state
    mounts = {
        state / "mirror": "/srv/mirror:ro",
        state / registry.LAYOUTS: f"{registry.MOUNTED_AT}:ro",
        modules.directory: "/srv/npm:ro",
        state / "evm": "/srv/evm:ro",
        state / "world" / "evm": "/var/lib/evm:rw",
        state / "world" / "registry": "/var/lib/docker-registry:rw",
    }
    return [f"--volume={source}:{target}" for source, target in mounts.items()]
