"""Reports as rows: texts that any database takes, ids, keys and packed samples."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeq import history, types
from edgeq.errors import HistoryError
from edgeq.history import database, rows

Reports = Callable[..., types.Report]
BORDERS = [0, 1, 2**31, 2**53, 10**15]


@given(st.text())
@example("\0\ud800" * 400)
def test_text_is_taken_by_every_database(value: str) -> None:
    found = rows.text(value)
    assert "\0" not in found
    assert len(found) <= rows.TEXT_LIMIT
    assert found.encode().decode() == found
    assert rows.text(found) == found
    if "\0" not in value and value.isprintable() and len(value) <= rows.TEXT_LIMIT:
        assert found == value


@given(st.text())
def test_a_label_is_one_line(value: str) -> None:
    found = rows.label(value)
    assert found.isprintable()
    assert found == found.strip()
    assert len(found) <= rows.LABEL_LIMIT


@given(st.lists(st.integers(1, 10**15), max_size=300))
@example(BORDERS)
@example([10**15] * 20_000)
def test_samples_come_back(samples: list[int]) -> None:
    assert rows.unpack(rows.pack(tuple(samples))) == tuple(samples)


def test_samples_take_little_space() -> None:
    samples = tuple(int(one) for one in np.random.default_rng(1).normal(4e6, 4e4, 8000))
    assert len(rows.pack(samples)) < 8000 * 3.5


@given(st.binary(max_size=200))
def test_no_bytes_unpack_to_anything_but_samples_or_a_refusal(content: bytes) -> None:
    try:
        found = rows.unpack(content)
    except HistoryError as refused:
        assert "samples are damaged" in refused.message
    else:
        assert len(found) <= rows.SAMPLES_LIMIT


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2099, 1, 1)), st.timedeltas(timedelta(milliseconds=1), timedelta(9999))
)
def test_ids_sort_as_their_times(first: datetime, later: timedelta) -> None:
    one, other = (rows.new_id(at.replace(tzinfo=timezone.utc)) for at in (first, first + later))
    assert one < other
    assert len(one) == len(other) == 28


def test_ids_of_one_moment_differ() -> None:
    at = datetime.now(timezone.utc)
    assert len({rows.new_id(at) for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    "changes",
    [
        {"latency_samples_ns": (4_000_000,)},
        {"memory_bytes": types.MeasuredMemory(peak_rss=1)},
        {"device": {"name": "other"}},
        {"settings": types.RunSettings(compare_float=False)},
        {"unavailable": {}},
        {"manifest_sha256": ""},
    ],
)
def test_another_measurement_is_another_key(reports: Reports, changes: dict[str, Any]) -> None:
    measured = reports(1).measurement
    assert measured is not None
    assert rows.natural_key(measured) == rows.natural_key(replace(measured))
    assert rows.natural_key(measured) != rows.natural_key(replace(measured, **changes))


def test_what_the_device_is(reports: Reports) -> None:
    def said(**device: object) -> str:
        return rows.hardware(reports(1, measured={"device": device}).measurement)

    assert said(board="Pi 4", machine="aarch64") == "Pi 4 (aarch64)"
    assert said(board=None, machine="x86_64", cpu={"model": "Xeon"}) == "Xeon (x86_64)"
    assert said(cpu=None) == said(cpu="x") == said(cpu={"model": None}) == "unknown (unknown)"


@pytest.mark.parametrize(
    ("told", "threads"), [("4", 4), ("", 3), ("x", 3), ("9" * 30, 3), ("\N{SUPERSCRIPT TWO}", 3), ("-1", 3)]
)
def test_threads_as_the_runtime_tells_them(reports: Reports, told: str, threads: int) -> None:
    changes = {"runtime": {"name": "r", "threads": told}, "settings": types.RunSettings(threads=3)}
    assert rows.row_of(reports(1, measured=changes), folder=None, command="")["threads"] == threads


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60), st.text(max_size=60), st.lists(st.text(max_size=20), max_size=3))
def test_any_names_can_be_kept_and_found(reports: Reports, name: str, device: str, labels: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEQ_STATE"] = folder
        try:
            told = {"device": {"name": device, "board": name}, "runtime": {"name": name, "version": device}}
            identity = history.record(reports(1, model=name, measured=told), command=device, labels=labels)
            assert [run.id for run in history.find(model=name, device=device)] == [identity]
            assert set(history.find()[0].labels) == {found for one in labels if (found := rows.label(one))}
        finally:
            del os.environ["EDGEQ_STATE"]


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=4, max_size=30),
    st.sampled_from(["", "fault of ", "x=", "%"]),
)
def test_no_password_stays_in_a_message(password: str, around: str) -> None:
    from urllib.parse import quote, quote_plus

    from sqlalchemy import URL

    url = URL.create("postgresql+psycopg", "me", password, "host", 5432, "runs", {"password": password + "2"})
    for form in (password, quote(password), quote(password, safe=""), quote_plus(password), password + "2"):
        told = database.masked(f"{around}{form} failed", url)
        assert form not in told.replace("***", "") or form in f"{around} failed"
    assert database.shown(url) == "postgresql://host:5432/runs"
