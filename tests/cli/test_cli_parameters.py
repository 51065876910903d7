"""Parameter types, exit codes, and where a flag's value comes from."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeq import errors
from edgeq.cli import EXIT_CODES, cli
from edgeq.cli.common import Cpus, Size
from edgeq.cli.exits import one_line
from edgeq.testing import models
from edgeq.units import parse_size

Edgeq = Callable[..., Any]
TARGET = "generic-linux-x86_64"

CODES = {
    "UsageError": 2,
    **dict.fromkeys(("CompilerRefused", "AtChance"), 3),
    **dict.fromkeys(("Unreachable", "UnknownHostKey", "HostKeyChanged", "AuthenticationFailed"), 4),
    **dict.fromkeys(("TimedOut", "Disconnected", "DeviceBusy"), 4),
}
"""What cli.md says; every other EdgeqError is 1."""

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.EdgeqError)]


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_has_its_exit_code(kind: type[errors.EdgeqError]) -> None:
    assert next(code for cls, code in EXIT_CODES if issubclass(kind, cls)) == CODES.get(kind.__name__, 1)


def test_exit_codes_go_from_special_to_general() -> None:
    kinds = [kind for kind, _ in EXIT_CODES]
    for place, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:place])
    assert kinds[-1] is errors.EdgeqError


@given(st.text(max_size=2000))
@example("a\nb\r\x1b[31mc\x07")
@example("x" * 5000)
@example("\u202eabc")
def test_text_from_elsewhere_stays_one_harmless_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert "\n" not in line
    assert len(line) <= 610
    assert one_line(line)[:600] == line[:600]


# --- Cpus -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("0", (0,)), ("2,3", (2, 3)), ("0-3", (0, 1, 2, 3)), ("0-1,4,6-7", (0, 1, 4, 6, 7)), ("5-5", (5,))],
)
def test_cpus(text: str, cpus: tuple[int, ...]) -> None:
    assert Cpus().convert(text, None, None) == cpus
    assert Cpus().convert(cpus, None, None) == cpus


@pytest.mark.parametrize("text", ["", ",", "a", "3-1", "-1", "1-", "1--2", "0-99999999999", "1.5", "1;2", "0x2"])
def test_what_are_no_cpus(text: str) -> None:
    if text == "1-":
        assert Cpus().convert(text, None, None) == (1,)
        return
    with pytest.raises(click.BadParameter, match="CPU"):
        Cpus().convert(text, None, None)


@given(st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 30)), min_size=1, max_size=8))
def test_ranges_of_cpus_are_what_they_say(ranges: list[tuple[int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}" if more else str(first) for first, more in ranges)
    expected = [number for first, more in ranges for number in range(first, first + more + 1)]
    assert Cpus().convert(text, None, None) == tuple(expected)


@given(st.text(max_size=40))
def test_any_text_is_cpus_or_a_bad_parameter(text: str) -> None:
    try:
        found = Cpus().convert(text, None, None)
    except click.BadParameter:
        return
    assert found
    assert all(number >= 0 for number in found)
    assert len(found) <= 1024 * 20


# --- Size -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("512", 512), ("64 KiB", 65536), ("1.5MiB", 3 << 19), (4096, 4096), ("0", 0)]
)
def test_size(text: str | int, size_bytes: int) -> None:
    assert Size().convert(text, None, None) == size_bytes


@pytest.mark.parametrize("text", ["", "64 KB", "-1", "1e9", "many", "1.5", "0.3 KiB", "64 kib", "1 2", "\u0664 x"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Size().convert(text, None, None)


@given(st.integers(0, 1 << 50), st.sampled_from(["B", "KiB", "MiB"]))
def test_sizes_agree_with_the_other_places_that_read_them(number: int, unit: str) -> None:
    text = f"{number % 10**9} {unit}"
    assert Size().convert(text, None, None) == parse_size(text)


@given(st.text(max_size=30))
@example("\u00b2")
@example("9" * 25)
def test_any_text_is_a_size_or_a_bad_parameter(text: str) -> None:
    try:
        assert Size().convert(text, None, None) >= 0
    except click.BadParameter as error:
        assert error.message


# --- flags, environment, project file -------------------------------------------------------------

ENVIRONMENT = {
    "--target": "x",
    "--device": "x",
    "--data": "x",
    "--output": "x",
    "--prefer": "memory",
    "--scheme": "x",
    "--max-drop": "0.5",
    "--min-sqnr-db": "20",
    "--max-latency-ms": "3",
    "--max-flash": "1 MiB",
    "--max-ram": "2 MiB",
    "--max-energy-mj": "7",
    "--runs": "9",
    "--seconds": "3",
    "--warmup-seconds": "0",
    "--sustained": "5",
    "--threads": "2",
    "--cpus": "0-1",
    "--workers": "2",
    "--timeout-seconds": "8",
    "--wait": "5",
}


def _options() -> dict[str, click.Option]:
    """Every shared flag of `run`, which has them all."""
    return {
        option.opts[-1]: option
        for option in cli.commands["run"].params
        if isinstance(option, click.Option) and option.envvar
    }


def _parsed(*argv: str) -> click.Context:
    """`run` with these words; click keeps the help flags of the first context it sees."""
    return cli.commands["run"].make_context("run", list(argv), help_option_names=["-h", "--help"])


def test_the_table_of_flags_is_whole() -> None:
    assert set(_options()) == set(ENVIRONMENT)


@pytest.mark.parametrize("flag", ENVIRONMENT)
def test_every_shared_flag_can_come_from_the_environment(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "EDGEQ_" + flag.strip("-").replace("-", "_").upper()
    monkeypatch.setenv(name, ENVIRONMENT[flag])
    others = {other: value for other, value in ENVIRONMENT.items() if other != flag}
    given_flags = [word for pair in others.items() for word in pair]
    with _parsed("m.tflite", *given_flags) as context:
        from_environment = context.params
    monkeypatch.delenv(name)
    with _parsed("m.tflite", *given_flags, flag, ENVIRONMENT[flag]) as context:
        assert context.params == from_environment


def test_a_flag_means_the_same_in_every_verb() -> None:
    meaning: dict[str, tuple[object, ...]] = {}
    for verb in cli.commands.values():
        for option in verb.params:
            if isinstance(option, click.Option) and option.envvar:
                seen = (repr(option.type.to_info_dict()), option.help, option.envvar, option.default)
                assert meaning.setdefault(option.opts[-1], seen) == seen, (verb.name, option.opts)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model."""
    models.conv_tflite(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _plan(edgeq: Edgeq, *more: object) -> dict[str, Any]:
    ran = edgeq("plan", "conv.tflite", "--json", *more)
    assert ran.code in (0, 3), ran.err
    return dict(ran.document)


def test_types_of_the_project_file(edgeq: Edgeq, project: Path) -> None:
    (project / "edgeq.yaml").write_text(
        f"target: {TARGET}\nprefer: memory\nmax-flash: 100\nmax_ram: 1 GiB\noutput: here\nruns: 7\nmax-drop: 0.25\n"
    )
    found = _plan(edgeq)
    assert found["target"] == TARGET
    assert [check["available"] for check in found["checks"] if not check["ok"]] == [100]
    assert (project / "here" / "plan.json").is_file()
    assert _plan(edgeq, "--max-flash", "1 GiB")["ok"]


@pytest.mark.parametrize(
    "line",
    [
        "runs: many",
        "max-ram: 64 KB",
        "max-flash: -5",
        "prefer: beauty",
        "max-drop: -1",
        "cpus: x",
        "seconds: [1]",
        "runs: true",
        "target: {a: 1}",
    ],
)
def test_a_wrong_value_in_the_project_file_is_a_usage_error(edgeq: Edgeq, project: Path, line: str) -> None:
    (project / "edgeq.yaml").write_text(f"device: 'local:'\ndata: nosuch.yaml\n{line}\n")
    more = () if line.startswith("target") else ("-t", TARGET)
    ran = edgeq("run", "conv.tflite", *more)
    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err
    assert line.partition(":")[0] in ran.err
    assert not (project / "build").exists()


@pytest.mark.parametrize("text", ["[1, 2]", "target: [", "a: &x 1\nb: *x", "json: true", "verbose: true", "model: m"])
def test_a_project_file_that_is_none(edgeq: Edgeq, project: Path, text: str) -> None:
    (project / "edgeq.yaml").write_text(text + "\n")
    ran = edgeq("plan", "conv.tflite", "-t", TARGET)
    assert ran.code == 2, ran.err
    assert "edgeq.yaml" in ran.err
    assert ran.error


def test_the_project_file_does_not_stand_between_a_user_and_help(edgeq: Edgeq, project: Path) -> None:
    (project / "edgeq.yaml").write_text("target: [\n")
    for argv in (("--help",), ("--version",)):
        assert edgeq(*argv).code == 0


def test_precedence_of_every_layer(edgeq: Edgeq, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _plan(edgeq, "-t", TARGET)["ok"]
    (project / "edgeq.yaml").write_text(f"target: {TARGET}\nmax-flash: 100\n")
    assert not _plan(edgeq)["ok"]
    monkeypatch.setenv("EDGEQ_MAX_FLASH", "1 GiB")
    assert _plan(edgeq)["ok"]
    assert not _plan(edgeq, "--max-flash", "200")["ok"]
