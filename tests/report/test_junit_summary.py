"""JUnit XML and the summary of a GitHub step, whatever names a model or a device has."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeq import store, types
from edgeq.report import comparison, junit, summary, verdict

Edgeq = Callable[..., Any]
HOSTILE = [
    "<script>alert(1)</script>",
    "]]>&amp;<!--",
    "\x00\x01\x1b[31m\ufffe\ud800",
    "a|b`c\\|d\n\n# heading",
    "[link](https://evil.example) www.evil.example me@evil.example @user #1",
    "![image](x) <img src=x onerror=y>",
    "``` fence",
    "'\"",
    "\u202eabc",
    "x" * 100_000,
    "",
]


@pytest.fixture
def report(quantized: types.QuantizedModel, measurement: types.Measurement) -> types.Report:
    judged = verdict.judge(quantized, measurement, None, types.Budgets(max_latency_ms=1.0))
    return types.Report(
        model="kws", quantized=quantized, bundle=None, measurement=measurement, validation=None, verdict=judged
    )


def read(text: str) -> Xml.Element:
    """The document, as a reader of XML sees it."""
    return Xml.fromstring(text.encode())  # noqa: S314  (our own)


def named(name: str) -> types.Report:
    """A report in which everything that comes from outside has one name."""
    check = types.Check(rule=name, subject=name, ok=False, needed=name, available=1.0, unit=name, why=name, hint=name)
    conditions = types.ConditionsPair(before=types.Conditions(), after=types.Conditions())
    measured = types.Measurement(
        device={"name": name}, runtime={"name": name, "version": name}, settings=types.RunSettings(), latency_ms=None,
        latency_samples_ns=(), batch=1, memory_bytes=types.MeasuredMemory(), energy=None, parity=None,
        conditions=conditions, manifest_sha256="", unavailable={name: name},
    )  # fmt: skip
    return types.Report(
        model=name, quantized=None, bundle=None, measurement=measured, validation=None,
        verdict=types.Verdict(ok=False, checks=(check, replace(check, ok=True))),
    )  # fmt: skip


def test_checks_become_test_cases(report: types.Report) -> None:
    root = read(junit.reports([report, report]))
    assert (root.tag, len(root.findall("testsuite"))) == ("testsuites", 2)
    suite = root[0]
    checks = report.verdict.checks
    assert suite.get("tests") == str(len(checks) + len(report.measurement.unavailable))  # type: ignore[union-attr]
    assert suite.get("failures") == str(sum(not check.ok for check in checks)) == "1"
    assert root.get("failures") == "2"
    failed = suite.find("testcase/failure")
    assert failed is not None
    assert "needed 4 ms, had 1 ms" in str(failed.text)
    assert len(suite.findall("testcase/skipped")) == int(suite.get("skipped", "0")) > 0
    facts = {one.get("name"): one.get("value") for one in suite.iterfind("properties/property")}
    assert facts["device"] == "desk-pi"
    assert facts["latency_p50_ms"] == "4.0"


def test_regressions_become_failures(report: types.Report) -> None:
    assert report.measurement is not None
    slow = replace(report, measurement=replace(report.measurement, latency_samples_ns=(8_000_000, 8_100_000) * 50))
    fast = replace(report, measurement=replace(report.measurement, latency_samples_ns=(4_000_000, 4_100_000) * 50))
    root = read(junit.comparison(comparison.compare(fast, slow, names=("a", "b"))))
    assert root.get("failures") == "1"
    case = next(one for one in root.iter("testcase") if one.find("failure") is not None)
    assert case.get("name") == "compare: latency p50"
    fine = read(junit.comparison(comparison.compare(fast, fast, names=("a", "b"))))
    assert fine.get("failures") == "0"
    assert int(fine.get("tests", "0")) >= 5


@given(st.text())
@example(HOSTILE[2])
def test_any_name_gives_xml_that_reads_back(name: str) -> None:
    root = read(junit.reports([named(name)]))
    assert len(root.findall("testsuite/testcase")) == 3
    assert {one.tag for one in root.iter()} == {
        "testsuites", "testsuite", "properties", "property", "testcase", "failure", "system-out", "skipped"
    }  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_in_xml(name: str) -> None:
    text = junit.reports([named(name)])
    root = read(text)
    told = str(root[0].get("name"))
    assert len(told) <= 2000
    if name.isprintable() and len(name) < 2000:
        assert told == name
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", text)


def cells_of(text: str) -> list[list[str]]:
    """Cells of the table rows, split as GitHub does: at pipes that no backslash escapes."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", line.strip("|")) for line in rows]


@given(st.text())
@example(HOSTILE[3])
@example(HOSTILE[4])
def test_any_name_stays_in_its_code_span(name: str) -> None:
    text = summary.reports([named(name)])
    outside = re.sub(r"`[^`\n]*`", "", text)
    assert "`" not in outside
    assert set(outside) <= set("|*-#:,\n abcdefghijklmnopqrstuvwxyzRSS0123456789")
    assert "<" not in outside
    assert all(char.isprintable() or char == "\n" for char in text)
    widths = [len(cells) for cells in cells_of(text)]
    assert set(widths) <= {2, 6}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_code_in_markdown(name: str) -> None:
    text = summary.reports([named(name)])
    assert len(text) < 20_000
    without_code = re.sub(r"`[^`\n]*`", "", text)
    for word in ("script", "evil", "heading", "fence", "img", "@"):
        assert word not in without_code


def test_a_summary_tells_what_matters(report: types.Report) -> None:
    text = summary.reports([report])
    assert text.startswith("### edgeq: `kws`")
    assert "| p50, p99 | `4 ms, 6 ms` |" in text
    assert "| **no** | `budget` | `latency p50` | `4 ms` | `1 ms` | `over the budget` |" in text
    assert "**not everything holds**" in text


def test_a_summary_of_a_comparison(report: types.Report) -> None:
    found = comparison.compare(report, report, names=("old|`", "new"))
    text = summary.comparison(found)
    assert text.startswith("### edgeq: `new` against `old\N{BROKEN BAR}'`")
    assert "nothing is worse beyond the noise" in text
    assert all(len(cells) == 7 for cells in cells_of(text))


@pytest.fixture
def folder(tmp_path: Path, report: types.Report) -> Path:
    store.write(tmp_path / "b" / "measurement.json", report.measurement)
    store.write(tmp_path / "b" / "quantized.json", report.quantized)
    return tmp_path / "b"


def test_report_writes_both(edgeq: Edgeq, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    ran = edgeq("report", folder, folder, "--junit", tmp_path / "out" / "junit.xml", "--github", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.document["reports"]) == 2
    assert read((tmp_path / "out" / "junit.xml").read_text()).get("failures") == "0"
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("before\n### edgeq: ")
    assert text.count("### edgeq: ") == 2


def test_outside_of_github_it_is_said_that_there_is_no_summary(
    edgeq: Edgeq, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    ran = edgeq("report", folder, "--github", "--quiet")
    assert ran.code == 0
    assert "GITHUB_STEP_SUMMARY is not set" in ran.err


@pytest.mark.parametrize("flag", ["--junit", "--github"])
def test_a_file_that_cannot_be_written_is_told(
    edgeq: Edgeq, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    argv = ("--junit", tmp_path) if flag == "--junit" else ("--github",)
    ran = edgeq("report", folder, *argv)
    assert ran.code == 1
    assert "cannot write: it is a folder" in ran.error
