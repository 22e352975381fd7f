"""The generated pages say what their sources say, leave hand-written words alone, and no link leads nowhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from docs import generate
from lab.checkout import Checkout

ROOT = Path(__file__).parents[2]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Everything that pages are generated from, and the pages, where a test may change them."""
    shutil.copytree(ROOT / "roles", tmp_path / "roles", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", tmp_path)
    copy = Checkout(tmp_path)
    regenerate(copy)
    return copy


def regenerate(checkout: Checkout) -> None:
    for path, text in generate.stale(checkout).items():
        (checkout.root / path).write_text(text)


def rendered(spec: str, tmp_path: Path) -> str:
    """The section of a role whose argument specs are `spec`."""
    meta = tmp_path / "roles" / "example" / "meta"
    meta.mkdir(parents=True)
    (meta / "argument_specs.yml").write_text(spec)
    return generate.role_page(Checkout(tmp_path), meta.parent).section


def broken_links(page: Path) -> list[str]:
    """Relative links of a page that lead to no file, or to no heading of a page."""
    prose = CODE.sub("", FENCED.sub("", page.read_text()))
    targets = [inline or reference for inline, reference in LINK.findall(prose)]
    relative = [target for target in targets if not ELSEWHERE.match(target)]
    return [target for target in relative if not leads_somewhere(page.parent, *target.split("#"))]


def leads_somewhere(folder: Path, name: str, heading: str = "") -> bool:
    file = folder / name
    if not heading:
        return file.exists()
    titles = HEADING.findall(FENCED.sub("", file.read_text())) if file.exists() else []
    return heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_every_page_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    code = generate.main(["--check"])
    assert code == 0, capsys.readouterr().err


def test_words_outside_the_markers_survive(checkout: Checkout) -> None:
    page = checkout.root / "roles/erigon/README.md"
    before, after = "# Erigon\n\nWhy it is here | by hand.\n\n", "\n\n## Notes\n\nAlso by hand, without a last newline"
    outdated = page.read_text().replace("erigon_max_peers", "erigon_most_peers")
    page.write_text(before + outdated.partition("\n\n")[2].rstrip() + after)
    regenerate(checkout)
    written = page.read_text()
    assert written.startswith(before + "<!-- generated from ")
    assert written.endswith("make docs: end -->" + after)
    assert "erigon_max_peers" in written
    assert "erigon_most_peers" not in written


def test_a_page_written_by_hand_gets_its_section_at_the_end_and_once(checkout: Checkout) -> None:
    page = checkout.root / "roles/nitro/README.md"
    page.write_text("# Nitro\n\nBy hand.\n")
    regenerate(checkout)
    written = page.read_text()
    assert written.startswith("# Nitro\n\nBy hand.\n\n<!-- generated from ")
    assert written.count("make docs: begin") == 1
    assert generate.stale(checkout) == {}


def test_a_role_without_a_page_gets_one_with_its_title_and_purpose(checkout: Checkout) -> None:
    page = checkout.root / "roles/nitro/README.md"
    page.unlink()
    regenerate(checkout)
    written = page.read_text()
    assert written.startswith(
        "# nitro\n\n<!-- generated from meta/argument_specs.yml by make docs: begin -->\n\nNitro for"
    )


def test_a_stale_page_is_named_with_the_way_out(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = checkout.root / "roles/polygon/meta/argument_specs.yml"
    specs.write_text(specs.read_text().replace("Bor's peers.", "Bor's neighbours."))
    monkeypatch.setattr(Checkout, "here", classmethod(lambda _: checkout))
    page = checkout.root / "roles/polygon/README.md"
    before = page.read_text()
    assert generate.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert re.findall(r"\S+\.md", said) == ["roles/polygon/README.md"]
    assert "`make docs`" in said
    assert said.count("\n") == 1
    assert page.read_text() == before


@pytest.mark.parametrize(
    ("source", "old", "new", "stale"),
    [
        (
            "roles/catalogue/defaults/main/services.yml",
            "{port: 8575,",
            "{port: 8599,",
            ["docs/clients/erigon.md", "docs/catalogue.md"],
        ),
        (
            "roles/catalogue/defaults/main/forks.yml",
            "fork: Purley",
            "fork: Purlee",
            ["docs/clients/polygon.md", "docs/catalogue.md", "docs/fork-day.md"],
        ),
        ("Makefile", "## What can be done here", "## What there is", ["docs/commands.md"]),
    ],
)
def test_a_changed_source_makes_its_pages_stale(
    checkout: Checkout, source: str, old: str, new: str, stale: list[str]
) -> None:
    file = checkout.root / source
    changed = file.read_text().replace(old, new)
    assert changed != file.read_text()
    file.write_text(changed)
    assert list(map(str, generate.stale(checkout))) == stale


def test_half_a_pair_of_markers_is_refused_by_name(checkout: Checkout) -> None:
    page = checkout.root / "roles/erigon/README.md"
    page.write_text(re.sub(r"<!--.*end -->", "", page.read_text()))
    with pytest.raises(generate.DocsError, match=r"in roles/erigon/README\.md are not one begin"):
        generate.stale(checkout)


def test_every_option_of_every_role_is_on_its_page() -> None:
    for specs in ROOT.glob("roles/*/meta/argument_specs.yml"):
        page = (specs.parent.parent / "README.md").read_text()
        for entry in yaml.safe_load(specs.read_text())["argument_specs"].values():
            for option in entry.get("options", {}):
                assert f"| `{option}` |" in page, specs


def test_a_cell_holds_pipes_lines_and_brackets_without_breaking_the_table(tmp_path: Path) -> None:
    spec = """
argument_specs:
  main:
    short_description: An example
    options:
      example_filter:
        type: list
        elements: dict
        default: ["a|b"]
        description:
          - Takes C(x | y),
            over <two> lines.
          - And more.
        options:
          when:
            choices: ["no", always]
            required: true
"""
    rows = rendered(spec, tmp_path).splitlines()[-2:]
    assert rows == [
        r"| `example_filter` | list of dict | no | `[a\|b]` |  | Takes `x \| y`, over &lt;two> lines. And more. |",
        "| `example_filter.when` | str | yes |  | `'no'`, `always` |  |",
    ]


def test_the_pages_are_the_same_on_every_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    narrow = generate.commands_page(Checkout(ROOT))
    monkeypatch.setenv("COLUMNS", "400")
    assert generate.commands_page(Checkout(ROOT)) == narrow


def test_commands_of_every_depth_are_listed_with_their_options() -> None:
    section = generate.commands_page(Checkout(ROOT)).section
    assert "| `make lab` |" in section
    assert "| `python -m lab host create` | have a host up and reachable |" in section
    assert "| `--amount-wei` | `executor fund`, `executor prepare` | yes |" in section


def test_every_relative_link_leads_to_a_file() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    tracked = [ROOT / name for name in listed.split("\0") if name]
    broken = {str(page.relative_to(ROOT)): found for page in tracked if (found := broken_links(page))}
    assert tracked
    assert broken == {}


def test_a_link_to_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Top\n\n[here](page.md#top) [gone](page.md#gone) [gone](gone.md) [out](https://example.org/x) [down](#below) `[code](no.md)`\n\n"
        '[titled](lost.md "title")\n\n```\n[fenced](no.md)\n```\n\n[named]\n\n[named]: away.md\n'
    )
    assert broken_links(page) == ["page.md#gone", "gone.md", "lost.md", "away.md"]
