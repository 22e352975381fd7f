"""Options of a client role for one chain: what the inventory sets for all of the role's chains, and for this one in node_options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

Options = Mapping[str, Any]


def names(spec: Mapping[str, Any]) -> list[str]:
    """The options of a role's argument spec that an operator sets; what is required (the chain) comes from the play."""
    return [name for name, option in spec["options"].items() if not option.get("required")]


def for_chain(common: Options, own: object, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the chain's own in their places, each as its spec's type where it can be read as that."""
    given, _ = _validated(own, spec)
    return {**common, **{name: value for name, value in given.items() if name in common}}


def problems(own: object, spec: Mapping[str, Any], chain: str) -> list[str]:
    """What is wrong with a chain's own options, a sentence each: what, where it is set, what is allowed."""
    where = f"node_options.{chain} in the inventory"
    if not isinstance(own, Mapping):
        return [f"{where} is {own!r}; allowed: a table of options, {{}} for none."]
    known = names(spec)
    found = []
    for name in own:
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            nearest = f"; the nearest is {close[0]}" if close else ""
            found.append(f"{where} sets {name}; allowed: options of the role that runs {chain}{nearest}.")
    _, complaints = _validated(own, spec)
    return found + [f"{where}: {complaint.rstrip('.')}." for complaint in complaints]


def _validated(own: object, spec: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    if not isinstance(own, Mapping):
        return {}, []
    concerned = {name: dict(spec["options"][name]) for name in names(spec) if name in own}
    checked = ArgumentSpecValidator(concerned).validate({name: own[name] for name in concerned})
    return checked.validated_parameters, list(checked.error_messages)


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filters."""
        return {
            "chain_service_option_names": names,
            "chain_service_option_problems": problems,
            "chain_service_options_for": for_chain,
        }
