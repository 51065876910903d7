"""Checks as JUnit XML, which continuous integration shows as tests.

Names come from model files and devices: ElementTree escapes them, and what XML 1.0 forbids (section 2.2) is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree as Xml

from edgeq.report.compared import answer, cells
from edgeq.report.terminal import quantity
from edgeq.types import Check, Compared, Difference, Report

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")
_LIMIT = 2000


def reports(found: Sequence[Report]) -> str:
    """A suite for each report: its verdict's checks, and what was not measured as skipped."""
    return _document(_suite_of_report(one) for one in found)


def comparison(found: Compared) -> str:
    """One suite: what became worse failed, what cannot be compared was skipped."""
    suite = _suite(f"{found.after.model} against {found.before.name}", {
        "before": found.before.name, "after": found.after.name, "device": found.after.device,
        "answer": answer(found), **{f"differs: {one.what}": f"{one.before} / {one.after}" for one in found.mismatches},
    })  # fmt: skip
    for one in found.differences:
        _case_of_difference(suite, one)
    return _document([suite])


def _suite_of_report(report: Report) -> Xml.Element:
    suite = _suite(report.model, _facts(report))
    for check in report.verdict.checks:
        _case_of_check(suite, check)
    for name, why in (report.measurement.unavailable if report.measurement else {}).items():
        Xml.SubElement(_case(suite, "measured", name), "skipped", message=_text(why))
    return suite


def _facts(report: Report) -> dict[str, object]:
    measured = report.measurement
    if measured is None:
        return {}
    latency = measured.latency_ms
    return {
        "device": measured.device.get("name"),
        "runtime": f"{measured.runtime.get('name', '')} {measured.runtime.get('version', '')}",
        "latency_p50_ms": latency.p50 if latency else None,
        "peak_rss_bytes": measured.memory_bytes.peak_rss,
    }


def _suite(name: str, facts: Mapping[str, object]) -> Xml.Element:
    suite = Xml.Element("testsuite", name=_text(name))
    properties = Xml.SubElement(suite, "properties")
    for key, value in facts.items():
        if value is not None:
            Xml.SubElement(properties, "property", name=_text(key), value=_text(value))
    return suite


def _case(suite: Xml.Element, rule: str, subject: str) -> Xml.Element:
    return Xml.SubElement(
        suite, "testcase", classname=f"edgeq.{_text(rule)}", name=_text(f"{rule}: {subject}"), time="0"
    )


def _case_of_check(suite: Xml.Element, check: Check) -> None:
    case = _case(suite, check.rule, check.subject)
    words = f"needed {quantity(check.needed, check.unit)}, had {quantity(check.available, check.unit)}: {check.why}"
    if check.ok:
        Xml.SubElement(case, "system-out").text = _text(words)
    else:
        failure = Xml.SubElement(case, "failure", message=_text(check.why or "does not hold"), type=_text(check.rule))
        failure.text = _text(words + (f" (try: {check.hint})" if check.hint else ""))


def _case_of_difference(suite: Xml.Element, one: Difference) -> None:
    case = _case(suite, "compare", one.quantity)
    _name, before, after, change, noise, found, why = map(str, cells(one))
    words = f"before {before}, after {after}, change {change}, noise {noise}: {found or 'not judged'}. {why}"
    if one.regressed:
        Xml.SubElement(case, "failure", message=_text(why or "worse"), type="regression").text = _text(words)
    elif one.answer == "missing":
        Xml.SubElement(case, "skipped", message=_text(why or "not measured"))
    else:
        Xml.SubElement(case, "system-out").text = _text(words)


def _text(value: object) -> str:
    """Text without what XML forbids, not endless."""
    return _FORBIDDEN.sub("?", str(value))[:_LIMIT]


def _document(suites: Iterable[Xml.Element]) -> str:
    """All suites with their counts."""
    root = Xml.Element("testsuites", name="edgeq")
    root.extend(suites)
    for one in (root, *root):
        for name, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
            one.set(name, str(sum(1 for _ in one.iter(tag))))
        one.set("errors", "0")
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"
