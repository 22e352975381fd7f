"""Which client follows its chain past which fork: pure functions over the catalogue's dictionaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ansible.utils.version import SemanticVersion

FORKS_FILE = "roles/catalogue/defaults/main/forks.yml or catalogue_extra_forks"
OVERRIDES = "catalogue_fork_overrides in the inventory"
WARN_DAYS = range(366)
REQUIRED = ("chain", "network", "fork", "at", "source")
COLUMNS = ("host", "chain", "fork", "at", "component", "version", "needs", "state", "reason")

Facts = Mapping[str, Any]


def problems(policy: Facts, chains: Facts, releases: Facts) -> list[str]:
    """Everything wrong with the table and with what overrides it, a sentence each: what, where it is set, what is allowed.

    `policy` holds `forks` (the table), `overrides` (what the operator takes upon himself), `now` (a moment in UTC) and `warn_days`.
    """
    forks, overrides, now, warn_days = (policy[key] for key in ("forks", "overrides", "now", "warn_days"))
    found = [sentence for fork in forks for sentence in _fork_problems(fork, chains, releases)]
    named = [(fork.get("chain"), fork.get("fork")) for fork in forks]
    found += [
        f"Fork '{fork}' of '{chain}' stands {named.count((chain, fork))} times in {FORKS_FILE}; allowed: once."
        for chain, fork in dict.fromkeys(named)
        if named.count((chain, fork)) > 1
    ]
    for override in overrides:
        if (override.get("chain"), override.get("fork")) not in named:
            found.append(
                f"An entry of {OVERRIDES} names the fork {override.get('fork')!r} of chain {override.get('chain')!r}; allowed: "
                f"{', '.join(f'{fork} of {chain}' for chain, fork in named)}."
            )
        if not str(override.get("reason") or "").strip():
            found.append(f"The entry of {OVERRIDES} for {override.get('chain')!r} has no reason; one is required.")
    found += [
        f"Version of release '{name}' is {release.get('version')!r} in roles/catalogue/defaults/main/releases.yml or "
        "catalogue_release_overrides; allowed for a client that forks concern: MAJOR.MINOR.PATCH, with a suffix or without."
        for name, release in releases.items()
        if name in _concerned(forks) and _version(release.get("version")) is None
    ]
    if not isinstance(warn_days, int) or isinstance(warn_days, bool) or warn_days not in WARN_DAYS:
        found.append(
            f"catalogue_fork_warn_days is {warn_days!r} in the inventory; allowed: a whole number from 0 to 365."
        )
    if _moment(now) is None:
        found.append(f"catalogue_fork_now is {now!r}; allowed: a moment in UTC such as 2026-11-05T00:00:00Z.")
    return found


def readiness(wanted: Iterable[str], host: str, chains: Facts, versions: Facts, policy: Facts) -> list[dict[str, str]]:
    """A row for each client of the chains wanted on `host` and each fork that concerns it, by chain and time of activation.

    `versions` gives a component's version, "" for one that is not there. A row's `state` is one of: ready; refused (the fork is
    active and the client does not follow it); overridden (refused but for the operator's word, which is its `reason`); due (not
    ready, and the fork is at most `warn_days` of the policy ahead); ahead (not ready, and it is further ahead); absent. `needs` is a version or
    "another client".
    """
    words = {(override["chain"], override["fork"]): override["reason"] for override in policy["overrides"]}
    now = _moment(policy["now"])
    if now is None:
        msg = f"{policy['now']!r} is no moment in UTC"
        raise ValueError(msg)
    rows = []
    for chain in wanted:
        facts = chains[chain]
        rules = facts.get("instance_of", chain)
        concerned = [fork for fork in policy["forks"] if (fork["chain"], fork["network"]) == (rules, facts["network"])]
        for fork in sorted(concerned, key=lambda fork: str(fork["at"])):
            for component in facts["components"].values():
                needs = _needs(component, fork)
                if not needs:
                    continue
                version = str(versions.get(component, ""))
                state = _state(version, needs, fork, now, policy["warn_days"])
                reason = words.get((rules, fork["fork"]), "") if state == "refused" else ""
                rows.append(
                    {
                        "host": host,
                        "chain": chain,
                        "fork": fork["fork"],
                        "at": fork["at"],
                        "component": component,
                        "version": version,
                        "needs": needs,
                        "state": "overridden" if reason else state,
                        "reason": reason,
                    }
                )
    return rows


def versions_of(releases: Facts) -> dict[str, str]:
    """Each component's version in the catalogue."""
    return {name: str(release["version"]) for name, release in releases.items()}


def with_versions(releases: Facts, versions: Mapping[str, str]) -> dict[str, Any]:
    """Give the releases with other versions of some of them."""
    return {**releases, **{name: {**releases[name], "version": version} for name, version in versions.items()}}


def sentences(rows: Iterable[Mapping[str, str]], state: str) -> list[str]:
    """What is to be said of the rows in `state`: what is the matter, and what can be done."""
    return [_SENTENCES[state].format(**row, what=_what(row)) for row in rows if row["state"] == state]


def table(rows: Sequence[Facts], columns: Iterable[str] = COLUMNS) -> list[str]:
    """The rows as lines of aligned columns, with a heading; columns that are empty throughout are left out."""
    shown = [column for column in columns if any(row.get(column) for row in rows)]
    cells = [["activation (UTC)" if column == "at" else column for column in shown]]
    cells += [[str(row.get(column, "")) or "-" for column in shown] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


_SENTENCES = {
    "refused": (
        "{component} {version} does not follow {chain} any more: {fork} (active since {at}) needs {what}; "
        "change catalogue_release_overrides or catalogue_chain_overrides, or give chain, fork and reason in catalogue_fork_overrides."
    ),
    "due": "{component} {version} will not follow {chain} past {fork} ({at}), which needs {what}: upgrade before.",
    "overridden": "{component} {version} runs {chain} past {fork} ({at}), which needs {what}, by the operator's word: {reason}",
}


def _what(row: Mapping[str, str]) -> str:
    return f"{row['component']} {row['needs']} or newer" if _version(row["needs"]) else row["needs"]


def _needs(component: str, fork: Facts) -> str:
    if component in fork.get("left_behind", []):
        return "another client"
    return str(fork.get("minimum", {}).get(component, ""))


def _state(version: str, needs: str, fork: Facts, now: datetime, warn_days: int) -> str:
    if not version:
        return "absent"
    have, least, active = _version(version), _version(needs), _moment(fork["at"])
    if have and least and have >= least:
        return "ready"
    if active is None or now >= active:
        return "refused"
    return "due" if active - now <= timedelta(days=warn_days) else "ahead"


def _fork_problems(fork: Facts, chains: Facts, releases: Facts) -> list[str]:
    missing = [key for key in REQUIRED if not fork.get(key)]
    subject = f"Fork '{fork.get('fork', '?')}' of '{fork.get('chain', '?')}'"
    if missing:
        return [f"{subject} lacks {', '.join(missing)} in {FORKS_FILE}; each is required."]
    found = []
    if fork["chain"] not in chains:
        found.append(f"{subject} in {FORKS_FILE} is of no chain that is known; allowed: {', '.join(chains)}.")
    if _moment(fork["at"]) is None:
        found.append(
            f"{subject} is at {fork['at']!r} in {FORKS_FILE}; allowed: a moment in UTC such as 2026-11-05T00:00:00Z."
        )
    found += [
        f"{subject} names the client '{component}' in {FORKS_FILE}; allowed: {', '.join(releases)}."
        for component in _concerned([fork])
        if component not in releases
    ]
    for component, version in fork.get("minimum", {}).items():
        if _version(version) is None:
            found.append(f"{subject} needs {component} {version!r} in {FORKS_FILE}; allowed: MAJOR.MINOR.PATCH.")
    if not _concerned([fork]):
        found.append(f"{subject} concerns no client in {FORKS_FILE}; allowed: minimum, left_behind or both.")
    return found


def _concerned(forks: Iterable[Facts]) -> list[str]:
    return [name for fork in forks for name in (*fork.get("minimum", {}), *fork.get("left_behind", []))]


def _version(text: object) -> SemanticVersion | None:
    try:
        return SemanticVersion(str(text))
    except ValueError:
        return None


def _moment(text: object) -> datetime | None:
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


class FilterModule:
    """The filters' names in playbooks."""

    def filters(self) -> dict[str, Any]:
        """Map each name to its function."""
        return {
            "catalogue_fork_problems": problems,
            "catalogue_fork_readiness": readiness,
            "catalogue_fork_sentences": sentences,
            "catalogue_table": table,
            "catalogue_versions": versions_of,
            "catalogue_with_versions": with_versions,
        }
