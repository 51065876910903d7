"""One of each stage's results, as the stages would leave them."""

from __future__ import annotations

import pytest

from edgeq import types


def _plan(**changes: object) -> types.Plan:
    content: dict[str, object] = {
        "target": "raspberry-pi-4",
        "runtime": "litert",
        "format": "tflite",
        "scheme": types.Scheme(
            name="static_wi8_ai8", default=types.Signature(activations="int8", weights="int8", bias="int32")
        ),
        "ok": True,
        "model_sha256": "ab" * 32,
        "operators": (
            types.Placement(
                index=0,
                type="CONV_2D",
                signature="int8/int8/int32",
                placement="cpu",
                rule="signature",
                why="in the table",
            ),
            types.Placement(index=1, type="FOO", signature="float32", placement="float", rule="fallback", why="no row"),
        ),
        "memory": types.PlannedMemory(flash_bytes=50_000, ram_bytes=70_000, arena_bytes=20_000),
        "predicted": types.Predicted(),
        "checks": (types.Check(rule="memory", subject="ram", ok=True, needed=70_000, available=1 << 29, unit="bytes"),),
        "rejected": (types.Rejected(scheme="float32", why="not a quantization"),),
        "unavailable": {"latency_ms": "the profile has no roofline"},
    }
    return types.Plan(**{**content, **changes})  # type: ignore[arg-type]


@pytest.fixture
def plan() -> types.Plan:
    return _plan()


@pytest.fixture
def quantized() -> types.QuantizedModel:
    return types.QuantizedModel(
        plan=_plan(),
        artifact=types.Artifact(
            path="kws_quantized.tflite", format="tflite", sha256="cd" * 32, size_bytes=53_000, float_size_bytes=104_088
        ),
        float_path="kws_float.tflite",
        float_sha256="ab" * 32,
        inputs=(types.Port(name="input", shape=(-1, 49, 10, 1), dtype="int8", scale=0.5, zero_point=3),),
        outputs=(types.Port(name="output", shape=(-1, 12), dtype="int8", scale=1 / 256, zero_point=-128),),
        accuracy=types.Accuracy(
            metric="top1", samples=400, float_score=0.9, quantized_score=0.8975, drop=0.0025, tolerance=0.01, ok=True
        ),
        fidelity=(types.Fidelity(name="output", cosine=0.999, sqnr_db=29.0, max_abs_error=0.02),),
        tried=(types.Rejected(scheme="static_wi8_ai8 (min-max)", why="top1 fell by 0.2"),),
        notes=("weights restored",),
        tools={"litert": "2.3.0"},
        seconds=2.0,
        peak_rss_bytes=200 << 20,
    )


@pytest.fixture
def measurement() -> types.Measurement:
    return types.Measurement(
        device={"name": "desk-pi", "machine": "aarch64"},
        runtime={"name": "ai_edge_litert", "version": "2.3.0"},
        settings=types.RunSettings(),
        latency_ms=types.Latency(
            p50=4.0, p90=4.4, p99=6.0, mean=4.1, std=0.2, min=3.9, max=7.0, runs=250, first=9.0, load=3.0
        ),
        latency_samples_ns=(4_000_000, 4_100_000),
        batch=1,
        memory_bytes=types.MeasuredMemory(peak_rss=60 << 20),
        energy=None,
        parity=types.Parity(exact=True, max_steps=0.0, vectors=32, ok=True),
        conditions=types.ConditionsPair(
            before=types.Conditions(governor="performance", temperature_c=50.0),
            after=types.Conditions(governor="performance", temperature_c=55.5),
        ),
        manifest_sha256="ef" * 32,
        unavailable={"energy_mj": "no sensor found"},
    )
