"""The documents say what the command line has, and point at what exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from edgeq.cli import cli

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("examples/*/README.md")])
VERBS = sorted(cli.commands)


def commands(verb: str) -> Iterator[click.Command]:
    """A verb and its own verbs."""
    command = cli.commands[verb]
    yield command
    if isinstance(command, click.Group):
        yield from command.commands.values()


def options(verb: str) -> Iterator[click.Option]:
    for command in commands(verb):
        yield from (one for one in command.params if isinstance(one, click.Option))


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_of_a_verb_is_on_its_page(verb: str) -> None:
    text = (DOCS / f"{verb}.md").read_text()
    assert text.startswith(f"# edgeq {verb}\n")
    for option in options(verb):
        for name in option.opts:
            assert f"`{name}`" in text, name
        if option.envvar:
            assert f"`{option.envvar}`" in text, option.envvar


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_names_no_flag_that_there_is_not(verb: str) -> None:
    text = (DOCS / f"{verb}.md").read_text()
    known = {name for one in VERBS for option in options(one) for name in option.opts} | {"--help", "--version"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known


@pytest.mark.parametrize("verb", VERBS)
def test_a_page_has_its_parts(verb: str) -> None:
    text = (DOCS / f"{verb}.md").read_text()
    for part in ("## JSON", "## Exit codes", "## Example"):
        assert part in text, part
    assert f"```sh\nedgeq {verb}" in text


@pytest.mark.parametrize("verb", VERBS)
def test_defaults_on_a_page_are_those_of_the_flags(verb: str) -> None:
    text = (DOCS / f"{verb}.md").read_text()
    for option in options(verb):
        if option.show_default and option.default is not None:
            row = next(line for line in text.splitlines() if line.startswith("|") and f"`{option.opts[-1]}`" in line)
            assert f"Default: `{option.default}`" in row, option.name


def test_every_verb_is_in_the_readme_and_the_index() -> None:
    for page, prefix in ((ROOT / "README.md", "docs/"), (DOCS / "index.md", "")):
        text = page.read_text()
        assert not [verb for verb in VERBS if f"[{verb}]({prefix}{verb}.md)" not in text], page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`((?:edgeq|tests|targets|docs)/[\w/.-]+\.(?:py|yaml|md))`", page.read_text())
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=lambda page: page.stem)
def test_a_decision_is_short_and_says_why(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert 15 <= len(lines) <= 40
    assert lines[0].startswith(f"# {page.name[:4]}: ")
    for part in ("**Decided**", "**Why**", "**Price**"):
        assert any(line.startswith(part) for line in lines), part


def test_decisions_that_the_code_names_exist() -> None:
    for path in (ROOT / "edgeq").rglob("*.py"):
        for name in re.findall(r"docs/decisions/[\w-]+\.md", path.read_text()):
            assert (ROOT / name).is_file(), f"{path}: {name}"


def test_accepted_drops_are_those_of_the_code() -> None:
    from edgeq.evaluation.metrics import METRICS

    text = (DOCS / "decisions" / "0003-tolerance.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(METRICS)
    for row in rows:
        names, told = row.split("|")[1:3]
        number = re.match(r"\s*([\d.]+)( dB)?\s*(?:$|,)", told)
        if number is None:
            continue
        for name in re.findall(r"`(\w+)`", names):
            assert METRICS[name].tolerance(0.9, np.zeros(1000)) == float(number[1]), name


def test_exit_codes_are_those_of_the_code() -> None:
    from edgeq.cli import EXIT_CODES, INTERRUPTED
    from edgeq.cli.common import Refusal

    rows = re.findall(r"^\| (\d+) \|", (DOCS / "index.md").read_text(), re.MULTILINE)
    assert {int(row) for row in rows} == {0, Refusal.exit_code, INTERRUPTED, *(code for _, code in EXIT_CODES)}


def test_variables_that_the_code_reads_are_named() -> None:
    text = (DOCS / "index.md").read_text()
    read = {
        name
        for path in (ROOT / "edgeq").rglob("*.py")
        if "testing" not in path.parts
        for name in re.findall(r"environ(?:\.get\(|\[)\"(EDGEQ_\w+)\"", path.read_text())
    }
    assert {"EDGEQ_DEVICES", "EDGEQ_TARGETS"} <= read
    assert all(f"`{name}`" in text for name in read)


def test_the_targets_of_the_readme_are_those_of_the_shelf() -> None:
    text = (ROOT / "README.md").read_text()
    for path in (ROOT / "targets").glob("*.yaml"):
        assert f"`{path.stem}`" in text or f"`-{path.stem.removeprefix('raspberry-pi-')}`" in text, path.stem


def test_the_yaml_of_adding_a_target_loads(tmp_path: Path) -> None:
    from edgeq import targets

    blocks = re.findall(r"```yaml\n(schema: 1\n.*?)```", (DOCS / "adding.md").read_text(), re.DOTALL)
    profile, table = blocks
    (tmp_path / "operators").mkdir()
    (tmp_path / "operators" / "my-runtime.yaml").write_text(table)
    path = tmp_path / "beagleplay.yaml"
    path.write_text(profile.replace("tflite-litert-cpu", "my-runtime"))
    found = targets.load(str(path))
    assert found.cpu.core == "cortex-a53"
    assert targets.load_tables(found, str(path))["my-runtime"].operators["RESHAPE"].passes_quantization


def test_the_python_of_adding_compiles() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "adding.md").read_text(), re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        code, _, entry = block.partition("# in METRICS")
        compile(code, "adding.md", "exec")
        if entry:
            compile("{" + entry.split("\n", 1)[1] + "}", "adding.md", "eval")


def test_the_changelog_has_an_open_section() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_licence_and_metadata_agree() -> None:
    assert '\nlicense = "Apache-2.0"\n' in (ROOT / "pyproject.toml").read_text()
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
