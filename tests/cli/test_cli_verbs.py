"""What every verb says, on which stream, and with which code."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from edgeq import __version__
from edgeq.cli import cli
from edgeq.testing import models

Edgeq = Callable[..., Any]
TARGET = "generic-linux-x86_64"
QUICK = ("--runs", "3", "--seconds", "0", "--warmup-seconds", "0")


def _commands() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, verb in cli.commands.items():
        found[name] = verb
        if isinstance(verb, click.Group):
            found.update({f"{name} {below}": command for below, command in verb.commands.items()})
    return found


@pytest.mark.parametrize("name", _commands())
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_flag(edgeq: Edgeq, name: str, flag: str) -> None:
    ran = edgeq(*name.split(), flag)
    assert (ran.code, ran.err) == (0, "")
    assert f"Usage: edgeq {name}" in ran.out
    for parameter in _commands()[name].params:
        if isinstance(parameter, click.Option):
            assert max(parameter.opts, key=len) in ran.out
            assert parameter.help, parameter.opts


def test_help_lists_every_verb(edgeq: Edgeq) -> None:
    ran = edgeq("--help")
    assert ran.code == 0
    for name, verb in cli.commands.items():
        assert re.search(rf"^  {name} +\w", ran.out, re.MULTILINE), name
        assert verb.short_help
    verbs = {"inspect", "targets", "plan", "quantize", "build", "deploy", "profile", "validate", "run", "report"}
    assert verbs | {"analyze", "compare", "devices", "doctor", "history", "tools"} == set(cli.commands)


def test_version(edgeq: Edgeq) -> None:
    ran = edgeq("--version")
    assert (ran.code, ran.err) == (0, "")
    assert __version__ in ran.out


@pytest.mark.parametrize(
    "argv",
    [("nosuch",), ("--nosuch",), ("devices", "nosuch"), ("targets", "show"), ("inspect",), ("report",), ("plan",)],
)
def test_usage_errors_go_to_stderr(edgeq: Edgeq, argv: tuple[str, ...]) -> None:
    ran = edgeq(*argv)
    assert ran.code == 2
    assert ran.out == ""
    assert "Usage: edgeq" in ran.err
    assert "Traceback" not in ran.err


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model, its samples, and this host as device `here`."""
    from edgeq import devices

    models.mlp_tflite(tmp_path)
    models.custom_op_tflite(tmp_path)
    models.tiny_dataset(tmp_path, models.MLP_SHAPE)
    monkeypatch.setenv("EDGEQ_DEVICES", str(tmp_path / "devices.yaml"))
    devices.add("here", "local:", python=sys.executable, folder=str(tmp_path / "device"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


ROAD: dict[str, tuple[str, ...]] = {
    "quantize": ("quantize", "mlp.tflite", "-t", TARGET, "--data", "dataset.yaml", "-o", "out"),
    "build": ("build", "mlp.tflite", "-t", TARGET, "--data", "dataset.yaml", "-o", "out", "--resume"),
    "deploy": ("deploy", "out/bundle", "-d", "here"),
    "profile": ("profile", "out/bundle", "-d", "here", *QUICK),
    "validate": ("validate", "out/bundle", "-d", "here", "--data", "dataset.yaml"),
    "run": ("run", "mlp.tflite", "-t", TARGET, "-d", "here", "--data", "dataset.yaml", "-o", "out", "--resume", *QUICK),
}
LOOKS: tuple[tuple[str, ...], ...] = (
    ("inspect", "mlp.tflite"),
    ("plan", "mlp.tflite", "-t", TARGET),
    ("targets",),
    ("targets", "list"),
    ("targets", "show", TARGET),
    ("devices",),
    ("devices", "list"),
    ("devices", "add", "pi", "ssh://pi@pi.lan"),
    ("devices", "remove", "here"),
    ("doctor",),
)


def test_quiet_prints_nothing_on_any_stream(edgeq: Edgeq, desk: Path) -> None:
    for argv in ROAD.values():
        ran = edgeq(*argv, "-q")
        assert (ran.code, ran.out, ran.err) == (0, "", ""), argv


def test_json_is_one_document_and_progress_goes_to_stderr(edgeq: Edgeq, desk: Path) -> None:
    for verb, argv in ROAD.items():
        ran = edgeq(*argv, "--json")
        assert ran.code == 0, ran.err
        assert ran.document["schema_version"] == 1, verb
        if verb != "run":  # all of it was resumed
            assert re.search(r"^\w.*: \d+/\d+$", ran.err, re.MULTILINE), verb
    assert edgeq("report", "out", "--json").document["verdict"]["ok"]
    both = edgeq("report", "out", "out", "--json").document
    assert [len(both["reports"]), both["reports"][0]] == [2, both["reports"][1]]
    shown = edgeq("report", "out", "out")
    assert shown.out.count("everything holds") == 2
    assert edgeq("report", "out", "nosuch").code == 1


def test_tables_go_to_stdout_and_progress_does_not(edgeq: Edgeq, desk: Path) -> None:
    ran = edgeq(*ROAD["build"], "-v")
    assert ran.code == 0
    assert "likeness to float" in ran.out
    assert "bundle: " in ran.err
    assert re.search(r"^scoring float: 0/48$", ran.err, re.MULTILINE)
    assert "scoring float" not in ran.out
    assert "\x1b" not in ran.out + ran.err


@pytest.mark.parametrize("argv", LOOKS, ids=" ".join)
def test_verbs_that_only_look(edgeq: Edgeq, desk: Path, argv: tuple[str, ...]) -> None:
    ran = edgeq(*argv, "--json")
    assert ran.code == 0, ran.err
    assert ran.document["schema_version"] == 1
    assert ran.err == ""
    if argv[:2] in (("devices", "add"), ("devices", "remove")):
        return
    shown = edgeq(*argv)
    assert shown.code == 0
    assert shown.out.strip()
    assert "\x1b" not in shown.out
    with pytest.raises(json.JSONDecodeError):
        json.loads(shown.out)


FAILURES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (1, ("inspect", "nosuch.tflite")),
    (1, ("plan", "mlp.tflite", "-t", "nosuch")),
    (1, ("targets", "show", "nosuch")),
    (1, ("deploy", "nosuch", "-d", "here")),
    (1, ("profile", "nosuch", "-d", "here")),
    (1, ("validate", "nosuch", "-d", "here", "--data", "x")),
    (1, ("report", "nosuch")),
    (1, ("devices", "remove", "nosuch")),
    (2, ("devices", "add", "here", "local:")),
    (4, ("devices", "probe", "ssh://nobody@127.0.0.1:1")),
    (4, ("devices", "trust", "ssh://nobody@127.0.0.1:1")),
    (1, ("quantize", "mlp.tflite", "-t", TARGET, "--data", "nosuch.yaml")),
    (4, tuple("ssh://nobody@127.0.0.1:1" if word == "here" else word for word in ROAD["run"])),
)


@pytest.mark.parametrize(
    ("code", "argv"), FAILURES, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_an_error_is_one_line_and_one_document(edgeq: Edgeq, desk: Path, code: int, argv: tuple[str, ...]) -> None:
    ran = edgeq(*argv, "--json")
    assert ran.code == code, ran.err
    entry = ran.document["error"]
    assert set(entry) == {"kind", "message", "where", "hint"}
    assert entry["message"]
    assert ran.error.startswith("error: ")
    silent = edgeq(*argv)
    assert (silent.code, silent.out) == (code, "")


REFUSALS: tuple[tuple[str, ...], ...] = (
    ("plan", "custom.tflite", "-t", TARGET, "-o", "no"),
    ("quantize", "custom.tflite", "-t", TARGET, "--data", "dataset.yaml", "-o", "no"),
    ("build", "custom.tflite", "-t", TARGET, "--data", "dataset.yaml", "-o", "no"),
    ("run", "custom.tflite", "-t", TARGET, "-d", "here", "--data", "dataset.yaml", "-o", "no"),
    ("plan", "mlp.tflite", "-t", TARGET, "-o", "no", "--max-flash", "100"),
    ("quantize", "mlp.tflite", "-t", TARGET, "--data", "dataset.yaml", "-o", "no", "--max-ram", "100"),
)


@pytest.mark.parametrize("argv", REFUSALS, ids=" ".join)
def test_a_refusal_is_a_document_too(edgeq: Edgeq, desk: Path, argv: tuple[str, ...]) -> None:
    ran = edgeq(*argv, "--json")
    assert ran.code == 3, ran.err
    assert "error:" not in ran.err
    plan = ran.document.get("plan", ran.document)
    assert plan["ok"] is False
    if "100" in argv:
        failed = [check for check in plan["checks"] if not check["ok"]]
        assert failed
        assert all(check["needed"] > check["available"] == 100 for check in failed)
    else:
        assert "EdgeqMystery" in [operator["type"] for operator in plan["operators"]]
    shown = edgeq(*argv)
    assert shown.code == 3
    assert "Traceback" not in shown.err
    assert "refused" in shown.out + shown.err or "100 B" in shown.out + shown.err


def test_explain_shows_every_operator(edgeq: Edgeq, desk: Path) -> None:
    short, long = edgeq("plan", "mlp.tflite", "-t", TARGET), edgeq("plan", "mlp.tflite", "-t", TARGET, "--explain")
    assert short.out.count("FULLY_CONNECTED") == 1
    assert "smallest change" in long.out
    assert "signature-supported" in long.out


# --- targets --------------------------------------------------------------------------------------


def test_targets_that_are_listed_can_be_shown(edgeq: Edgeq) -> None:
    listed = edgeq("targets", "--json").document["targets"]
    names = [entry["name"] for entry in listed]
    assert len(names) == len(set(names)) >= 3
    assert edgeq("targets", "list", "--json").document["targets"] == listed
    table = edgeq("targets").out
    for name in names:
        assert name in table
    shown = edgeq("targets", "show", names[0])
    assert all(title in shown.out for title in ("runtimes", "sources", "operator table"))
    document = edgeq("targets", "show", names[0], "--json").document
    assert names[0] in json.dumps(document)


# --- devices --------------------------------------------------------------------------------------


def test_devices_come_and_go(edgeq: Edgeq, desk: Path) -> None:
    added = edgeq("devices", "add", "pi", "ssh://pi@pi.lan:2222", "--notes", "[red]by the window[/red]")
    assert (added.code, added.out, added.err) == (0, "", "added pi\n")
    listed = edgeq("devices")
    assert "[red]by the window[/red]" in listed.out
    found = {entry["name"]: entry for entry in edgeq("devices", "--json").document["devices"]}
    assert set(found) == {"here", "pi"}
    assert (found["pi"]["host"], found["pi"]["port"], found["pi"]["user"]) == ("pi.lan", 2222, "pi")
    assert edgeq("devices", "remove", "pi").err == "removed pi\n"
    assert [entry["name"] for entry in edgeq("devices", "--json").document["devices"]] == ["here"]


@pytest.mark.parametrize("address", ["pi.lan", "ssh://pi:secret@pi.lan", "ssh://pi@pi.lan:99999", "local:x"])
def test_a_device_that_is_wrong_is_not_recorded(edgeq: Edgeq, desk: Path, address: str) -> None:
    before = (desk / "devices.yaml").read_bytes()
    ran = edgeq("devices", "add", "pi", address)
    assert ran.code == 1
    assert ran.error
    assert "secret" not in ran.err
    assert (desk / "devices.yaml").read_bytes() == before


def test_doctor_says_no_when_something_is_missing(edgeq: Edgeq, desk: Path) -> None:
    (desk / "devices.yaml").write_text("devices: 3\n")
    ran = edgeq("doctor", "--json")
    assert ran.code == 3
    assert ran.document["ok"] is False
    assert [check["subject"] for check in ran.document["checks"] if check["rule"] == "needed" and not check["ok"]] == [
        "devices.yaml"
    ]
    assert "devices.yaml" in edgeq("doctor").out
