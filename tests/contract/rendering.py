"""Template what the client roles would run and write in this process: a play takes seconds, and a property wants hundreds of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import add_all_plugin_dirs, init_plugin_loader
from ansible.template import Templar

ROLES = Path(__file__).parents[2] / "roles"
CHAINS = ["ethereum", "base", "polygon", "arbitrum", "optimism", "sepolia"]
CLIENT_ROLES = ("erigon", "op_stack", "polygon", "nitro")


@cache
def _role_variables() -> dict[str, Any]:
    """Defaults and variables of the catalogue, the client roles, certbot's and the agents', as templates."""
    init_plugin_loader([])
    loader = DataLoader()
    found: dict[str, Any] = {}
    for role in ("catalogue", *CLIENT_ROLES, "certbot", "mev_agents"):
        add_all_plugin_dirs(str(ROLES / role))
        for kind in ("defaults", "vars"):
            for file in sorted((ROLES / role / kind).rglob("*.yml")):
                found |= loader.load_from_file(str(file), trusted_as_template=True)
    # The client roles have these filters from chain_service.
    add_all_plugin_dirs(str(ROLES / "chain_service"))
    return found


@cache
def _facts(execution_of_optimism: str) -> dict[str, Any]:
    """The catalogue's facts on a host that runs all chains; no option of a role changes them."""
    overrides = {"optimism": {"components": {"execution": execution_of_optimism}}}
    variables = {**_role_variables(), **_host(), "catalogue_chain_overrides": overrides}
    names = ("catalogue_chains", "catalogue_services", "catalogue_hosts", "catalogue_listeners")
    return {name: Templar(DataLoader(), variables).template(variables[name]) for name in names}


def _host() -> dict[str, Any]:
    host = {"node_chains": CHAINS, "group_names": ["nodes"], "inventory_hostname": "host"}
    return {**host, "groups": {"all": ["host"], "nodes": ["host"]}, "hostvars": {"host": host}}


def rendered(expression: str, options: dict[str, Any], execution_of_optimism: str = "op-reth") -> Any:
    """The value of a role's variable, with an inventory's options in place of its defaults."""
    variables = {**_role_variables(), **_host(), **_facts(execution_of_optimism), **options}
    # What roles/chain_service/tasks/check.yml would leave there.
    variables["chain_service_options"] = variables
    return Templar(DataLoader(), variables).template(variables[expression])
