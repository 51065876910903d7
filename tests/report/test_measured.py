"""What was measured, as rows and as a page: every fact in it, nothing hostile let through."""

from __future__ import annotations

import dataclasses
import io
import re
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from edgeq import types
from edgeq.report import html, json, measured, terminal

HOSTILE = "<script>alert(1)</script>\x1b[2J"


@pytest.fixture
def full(measurement: types.Measurement) -> types.Measurement:
    """A measurement that has everything."""
    rng = np.random.default_rng(1)
    samples = tuple(
        int(value) for value in 4e6 * (1 + 0.01 * rng.standard_normal(500)) * (1 + (rng.random(500) < 0.02))
    )
    assert measurement.latency_ms
    latency = dataclasses.replace(measurement.latency_ms, p50_ci=(3.9, 4.1), p90_ci=(4.3, 4.6))
    return dataclasses.replace(
        measurement,
        latency_ms=latency,
        latency_samples_ns=samples,
        sample_starts_ns=tuple(int(value) for value in np.concatenate([[0], np.cumsum(samples)[:-1]])),
        warmup=types.Warmup(seconds=0.5, runs=100, steady=True, wander=0.01),
        steadiness=types.Steadiness(
            begins_s=0.2,
            changes=(
                types.LevelChange(kind="step", at_s=0.8, until_s=0.8, ratio=1.31),
                types.LevelChange(kind="drift", at_s=1.0, until_s=1.9, ratio=1.5),
                types.LevelChange(kind="step", at_s=1.95, until_s=1.95, ratio=0.7),
            ),
            spikes=types.SpikeTrain(share=0.02, time_share=0.12, period_s=0.05, size=6.0),
            outliers=types.Outliers(count=9, share=0.018, time_share=0.03),
        ),
        sustained=types.Sustained(
            minutes=5.0,
            peak_p50_ms=4.0,
            sustained_p50_ms=6.0,
            throttled_after_s=83.0,
            slices=(types.Slice(from_s=0.0, until_s=12.5, p50_ms=4.0),),
        ),
        speedup=types.Speedup(
            ratio=2.5, low=2.4, high=2.6, float_p50_ms=10.0, quantized_p50_ms=4.0, rounds=30, seconds=1.2
        ),
        operators=tuple(
            types.OperatorTime(operator="CONV_2D", name=f"n{n}", placement="CPU", count=1, ms=1.0, share=0.04)
            for n in range(25)
        ),
        watched=tuple(
            types.Watched(at_s=n / 4, clock_hz=1_500_000_000 - n, temperature_c=50.0 + n, throttled=False)
            for n in range(8)
        ),
        memory_bytes=types.MeasuredMemory(
            peak_rss=60 << 20, pss=30 << 20, floor_rss=41 << 20, model_rss=19 << 20, model_file=1 << 20
        ),
    )  # fmt: skip


def text(renderable: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200).print(renderable)
    return stream.getvalue()


@pytest.mark.parametrize(
    "fact",
    [
        "p50 4 ms",
        "p50 3.9 ms to 4.1 ms",
        "mean 4.1 ms  std 200 µs  250 runs",
        "the first 0.2 s of the runs were still slower",
        "slowed down at 0.8 s, to 1.31 times the level before",
        "slowed down little by little from 1 s to 1.9 s, to 1.50 times",
        "sped up at 1.95 s, to 0.70 times",
        "a spike every 50 ms, 6.0 times the level, 12.0% of the time",
        "9 (1.80% of the samples, 3.00% of the time), kept",
        "p50 6 ms after 5 min, 1.50 times the best 4 ms",
        "from 83 s on",
        "2.5 (2.4 to 2.6) over float, 30 rounds in turn: float 10 ms, quantized 4 ms",
        "41.0 MiB",
        "19.0 MiB",
        "5 others",
        "CONV_2D",
    ],
)
def test_every_fact_is_in_the_table_and_on_the_page(full: types.Measurement, fact: str) -> None:
    assert fact in text(terminal.measurement(full))
    if fact != "5 others":
        assert fact in html.measurement(full, "a model")


def test_a_steady_run_says_so(measurement: types.Measurement) -> None:
    calm = dataclasses.replace(measurement, steadiness=types.Steadiness(begins_s=0.0))
    assert "no step, drift or spike train" in text(terminal.measurement(calm))
    unsure = dataclasses.replace(measurement, steadiness=types.Steadiness(begins_s=0.0, why="9 samples"))
    assert "no step, drift or spike train" not in text(terminal.measurement(unsure))


def test_an_older_measurement_has_the_rows_that_it_had(measurement: types.Measurement) -> None:
    shown = text(terminal.measurement(measurement))
    for fact in ("p50 4 ms", "first, load", "peak RSS", "exact on 32", "no energy_mj"):
        assert fact in shown
    for fact in ("at 95 %", "speed-up", "sustained", "operators", "steady"):
        assert fact not in shown


def test_a_speed_up_without_an_interval_says_so(full: types.Measurement) -> None:
    assert full.speedup
    bare = dataclasses.replace(full.speedup, low=None, high=None)
    assert measured.speedup(bare)[1].startswith("2.5 (no interval) over float")


def test_endurance_without_throttling(full: types.Measurement) -> None:
    assert full.sustained
    never = dataclasses.replace(full.sustained, throttled_after_s=None)
    assert ("throttled", "never in that time") in list(measured.sustained(never))


def test_names_from_a_device_cannot_script_the_page_nor_drive_the_terminal(full: types.Measurement) -> None:
    bad = dataclasses.replace(
        full,
        runtime={"name": HOSTILE, "version": "1"},
        operators=(types.OperatorTime(operator=HOSTILE, name=HOSTILE, placement=HOSTILE, count=1, ms=1.0, share=1.0),),
        unavailable={HOSTILE: HOSTILE},
    )
    page = html.measurement(bad, HOSTILE)
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\x1b" not in text(terminal.measurement(bad))
    assert "default-src 'none'" in page


def test_the_page_has_one_picture_that_needs_nothing_else(full: types.Measurement) -> None:
    page = html.measurement(full, "a model")
    pictures = re.findall(r'<img src="([^"]*)"', page)
    assert len(pictures) == 1
    assert pictures[0].startswith("data:image/svg+xml;base64,")
    assert "http://" not in re.sub(r'src="data:[^"]*"', "", page)
    assert len(page) < 1 << 20


@pytest.mark.parametrize(
    "changes",
    [
        {"watched": ()},
        {"sample_starts_ns": ()},
        {"steadiness": None},
        {"latency_samples_ns": (5,), "sample_starts_ns": (0,)},
        {"latency_samples_ns": (), "sample_starts_ns": (), "latency_ms": None},
        {"sustained": None, "speedup": None, "operators": ()},
        {"watched": (types.Watched(at_s=0.0, temperature_c=50.0),)},
    ],
)
def test_whatever_is_missing_the_page_is_made(full: types.Measurement, changes: dict[str, Any]) -> None:
    page = html.measurement(dataclasses.replace(full, **changes), "a model")
    assert ("<img" in page) == bool(changes.get("latency_samples_ns", True))


def test_20_000_samples_make_a_small_picture(full: types.Measurement) -> None:
    samples = tuple(int(value) for value in 1e6 * np.random.default_rng(2).lognormal(0, 0.1, 20_000))
    page = html.measurement(dataclasses.replace(full, latency_samples_ns=samples, sample_starts_ns=()), "a model")
    assert len(page) < 2 << 20


def test_json_has_all_of_it_and_no_raw_samples(full: types.Measurement) -> None:
    found = json.measurement(full)
    assert found["speedup"]["ratio"] == 2.5
    assert found["latency_ms"]["p50_ci"] == [3.9, 4.1]
    assert found["latency_ms"]["p99_ci"] is None
    assert found["steadiness"]["changes"][0]["kind"] == "step"
    assert len(found["operators"]) == 25
    assert found["watched"][0]["clock_hz"] == 1_500_000_000
    assert found["memory_bytes"]["floor_rss"] == 41 << 20
    assert not {"latency_samples_ns", "sample_starts_ns"} & set(found)
