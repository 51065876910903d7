"""What the verbs share: limits, decorators, the project's file, progress in lines, documents on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.cli import common, defaults, progress
from edgeq.errors import UsageError

GROUP = click.Group(
    "tool",
    commands=[
        click.Command("make", params=[click.Option(["--max-drop"], envvar="A"), click.Option(["--own"])]),
        click.Command("look", params=[click.Option(["-t", "--target"], envvar="B"), click.Argument(["model"])]),
    ],
)


def loaded(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "edgeq.yaml"
    path.write_text(text)
    return defaults.load(path, GROUP)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("max-drop: 0.01", {"max_drop": 0.01}),
        ("max_drop: 0.01", {"max_drop": 0.01}),
        ("target: pi\nmax-drop: 1", {"target": "pi", "max_drop": 1}),
    ],
)
def test_every_command_gets_the_projects_defaults(tmp_path: Path, text: str, found: dict[str, Any]) -> None:
    assert loaded(tmp_path, text) == {"make": found, "look": found}


@pytest.mark.parametrize("key", ["own", "model", "t", "targets", "max drop", "help"])
def test_only_flags_that_mean_the_same_everywhere_can_be_set(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError, match="no flag is called") as caught:
        loaded(tmp_path, f"target: pi\n{key}: 1\n")
    assert str(caught.value.where).endswith("edgeq.yaml:2")
    assert caught.value.hint == "flags: max-drop, target"


@pytest.mark.parametrize("value", ["true", "False", "[1, 2]", "{a: 1}", "[]"])
def test_a_default_is_one_number_or_text(tmp_path: Path, value: str) -> None:
    with pytest.raises(UsageError, match="max-drop takes one number or text") as caught:
        loaded(tmp_path, f"# first\n\nmax-drop: {value}\n")
    assert str(caught.value.where).endswith("edgeq.yaml:3")


@pytest.mark.parametrize("text", [0, "0", "0 B", "0KiB", "0.0 MiB"])
def test_nothing_fits_into_a_limit_of_nothing(text: str | int) -> None:
    assert common.Size().convert(text, None, None) == 0
    with pytest.raises(click.BadParameter, match="holds nothing"):
        common.SizeLimit().convert(text, None, None)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2**50))
def test_a_limit_above_nothing_is_the_size(size_bytes: int) -> None:
    assert common.SizeLimit().convert(str(size_bytes), None, None) == size_bytes
    assert common.SizeLimit().convert(size_bytes, None, None) == size_bytes


@pytest.mark.parametrize("last", [1023, 1024, 10**12, 10**30])
def test_a_range_of_cpus_has_at_most_1024(last: int) -> None:
    if last < 1024:
        assert common.Cpus().convert(f"0-{last}", None, None) == tuple(range(last + 1))
        return
    with pytest.raises(click.BadParameter, match="CPU"):
        common.Cpus().convert(f"0-{last}", None, None)


def test_the_first_of_several_decorators_is_on_top() -> None:
    def adding(letter: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
        return lambda function: lambda: letter + function()

    assert common.together(adding("a"), adding("b"), adding("c"))(lambda: "!")() == "abc!"
    assert common.together()(len) is len


@pytest.mark.parametrize(
    ("arguments", "heard"),
    [
        ([], "list None"),
        (["--kind", "mcu"], "list mcu"),
        (["list", "--kind", "npu"], "list npu"),
        (["--kind", "mcu", "show"], "show"),
    ],
)
def test_a_group_without_a_subcommand_lists_with_its_flags(arguments: list[str], heard: str) -> None:
    @click.group(invoke_without_command=True)
    @click.option("--kind")
    @click.pass_context
    def group(ctx: click.Context, /, **options: Any) -> None:
        common.list_unless_told(ctx, listing, options)

    @group.command("list")
    @click.option("--kind")
    def listing(kind: str | None) -> None:
        click.echo(f"list {kind}")

    @group.command("show")
    def show() -> None:
        click.echo("show")

    ran = CliRunner().invoke(group, arguments)
    assert (ran.exit_code, ran.output.strip()) == (0, heard)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_document_never_holds_what_json_has_not(value: float, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        common.print_json({"score": value})
    assert capsys.readouterr().out == ""


def test_what_was_done_goes_to_one_stream_only(capsys: pytest.CaptureFixture[str]) -> None:
    common.done("added desk", as_json=False, device="desk")
    assert capsys.readouterr() == ("", "added desk\n")
    common.done("added desk", as_json=True, device="desk")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"schema_version": 1, "device": "desk"}
    assert captured.err == ""


def test_progress_without_a_terminal_is_a_line_where_a_step_begins_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown() as told:
        told("reading", 0, 3)
        told("scoring", 0, 2)
        told("reading", 3, 3)
        told("scoring", 2, 2)
        told("reading", 0, 1)  # the same step once more
    lines = ["reading: 0/3", "scoring: 0/2", "reading: 3/3", "scoring: 2/2", "reading: 0/1"]
    assert capsys.readouterr() == ("", "".join(f"{one}\n" for one in lines))


@pytest.mark.parametrize(("quiet", "said"), [(True, ""), (False, "reading: 0/3\nhello\n")])
def test_quiet_says_nothing(quiet: bool, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with common.progress(quiet) as told:
        told("reading", 0, 3)
    common.say("hello", quiet)
    assert capsys.readouterr() == ("", said)
