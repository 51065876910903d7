"""A report as one row of the run history, and back."""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
import struct
import zlib
from dataclasses import MISSING, Field, asdict, fields, is_dataclass, replace
from datetime import datetime, timezone
from itertools import accumulate
from pathlib import Path
from typing import Any

from edgeq import __version__, documents
from edgeq.errors import HistoryError
from edgeq.types import Measurement, Report

TEXT_LIMIT = 500
LABEL_LIMIT = 100
SAMPLES_LIMIT = 1 << 20
_REPORT_LIMIT = 64 << 20
Row = dict[str, Any]


def row_of(report: Report, *, folder: Path | None, command: str) -> Row:
    """All columns of a run; raises HistoryError where nothing was measured."""
    measured = report.measurement
    if measured is None:
        raise HistoryError("nothing was measured: there is no run to keep")
    at = measured_at(folder)
    return {
        "id": new_id(at),
        "natural_key": natural_key(measured),
        "at": at,
        "edgeq_version": __version__,
        "host": text(socket.gethostname()),
        "command": text(command),
        "folder": text(folder.absolute() if folder else ""),
        **_of_model(report),
        **_of_measurement(measured),
        "ok": report.verdict.ok,
        "report": _stored(report, measured),
    }


def _of_model(report: Report) -> Row:
    quantized, bundle = report.quantized, report.bundle
    accuracy = quantized.accuracy if quantized else None
    validated = report.validation
    return {
        "model": text(Path(quantized.float_path).stem if quantized else report.model),
        "model_sha256": text(quantized.float_sha256 if quantized else ""),
        "artifact_sha256": text(quantized.artifact.sha256 if quantized else ""),
        "target": text(bundle.target if bundle else quantized.plan.target if quantized else ""),
        "scheme": text(quantized.plan.scheme.name if quantized else bundle.scheme if bundle else ""),
        "size_bytes": quantized.artifact.size_bytes if quantized else None,
        "metric": text(accuracy.metric) if accuracy else None,
        "accuracy": validated.device_score if validated else accuracy.quantized_score if accuracy else None,
    }


def _of_measurement(measured: Measurement) -> Row:
    latency, energy, parity = measured.latency_ms, measured.energy, measured.parity
    threads = str(measured.runtime.get("threads", ""))
    return {
        "device": text(measured.device.get("name", "")),
        "hardware": hardware(measured),
        "runtime": text(measured.runtime.get("name", "")),
        "runtime_version": text(measured.runtime.get("version", "")),
        "threads": int(threads) if threads.isdecimal() and len(threads) < 9 else measured.settings.threads,
        "p50_ms": latency.p50 if latency else None,
        "p90_ms": latency.p90 if latency else None,
        "p99_ms": latency.p99 if latency else None,
        "batch": measured.batch,
        "samples": pack(measured.latency_samples_ns),
        "starts": pack(_steps(measured.sample_starts_ns)),
        "peak_rss_bytes": measured.memory_bytes.peak_rss,
        "energy_mj": energy.per_inference_mj if energy else None,
        "parity_ok": parity.ok if parity else None,
        "throttled": measured.conditions.throttled,
        "conditions": json.dumps(asdict(measured.conditions), allow_nan=False),
    }


def hardware(measured: Measurement) -> str:
    """What the device is: its board, else its processor, and the architecture."""
    told = measured.device
    cpu = told.get("cpu")
    model = told.get("board") or (cpu.get("model") if isinstance(cpu, dict) else None) or "unknown"
    return text(f"{model} ({told.get('machine', 'unknown')})")


def natural_key(measured: Measurement) -> str:
    """Hash of all that was measured: the same measurement is the same run, however often it is recorded."""
    content = json.dumps(_canonical(measured), sort_keys=True, allow_nan=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _canonical(value: object) -> object:
    """Plain data that a stage file gives back unchanged, also to an edgeq that knows more fields than wrote it.

    Whole numbers are integers (50 becomes 50.0 when it is read again); fields at their defaults are left out.
    """
    if is_dataclass(value):
        told = {one.name: (getattr(value, one.name), _default(one)) for one in fields(value)}
        return {name: _canonical(found) for name, (found, usual) in told.items() if found != usual}
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _default(one: Field[Any]) -> object:
    return one.default if one.default_factory is MISSING else one.default_factory()


def new_id(at: datetime) -> str:
    """An id that sorts by time and is unique across hosts: `20261121-224512-1c9` and 36 random bits."""
    return f"{at:%Y%m%d-%H%M%S}-{at.microsecond // 1000:03x}{secrets.token_hex(5)[:9]}"


def measured_at(folder: Path | None) -> datetime:
    """When the folder's measurement was written; now where there is none, or one from the future."""
    now = datetime.now(timezone.utc)
    if folder is None:
        return now
    try:
        written = (folder / "measurement.json").stat().st_mtime
        return min(now, datetime.fromtimestamp(written, timezone.utc))
    except (OSError, ValueError, OverflowError):
        return now


def text(value: object) -> str:
    """Text that every database takes: no NUL, no half of a surrogate pair, not endless."""
    found = str(value).replace("\0", "?")[:TEXT_LIMIT]
    return found.encode("utf-8", "replace").decode()


def label(value: str) -> str:
    """A label: one line of printable text."""
    return " ".join("".join(char if char.isprintable() else " " for char in text(value)).split())[:LABEL_LIMIT]


def pack(samples_ns: tuple[int, ...]) -> bytes:
    """Raw samples as compressed little-endian 64-bit integers."""
    return zlib.compress(struct.pack(f"<{len(samples_ns)}q", *samples_ns), 6)


def _steps(starts_ns: tuple[int, ...]) -> tuple[int, ...]:
    """Each moment from the one before, which packs better."""
    return tuple(now - before for before, now in zip((0, *starts_ns), starts_ns, strict=False))


def unpack(packed: bytes) -> tuple[int, ...]:
    """The samples that were packed; raises HistoryError."""
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(packed, 8 * SAMPLES_LIMIT)
    except zlib.error as problem:
        raise HistoryError(f"a run's samples are damaged: {problem}") from problem
    if not reader.eof or len(content) % 8:
        raise HistoryError("a run's samples are damaged: not whole")
    return struct.unpack(f"<{len(content) // 8}q", content)


def _stored(report: Report, measured: Measurement) -> str:
    """The report as JSON; its samples lie compressed in a column of their own."""
    slim = replace(report, measurement=replace(measured, latency_samples_ns=(), sample_starts_ns=()))
    return json.dumps(asdict(slim), allow_nan=False)


def report_of(stored: str, packed: bytes, packed_starts: bytes | None, where: str) -> Report:
    """The report as it was recorded; raises HistoryError naming the run where it is damaged or of a newer edgeq."""
    if len(stored) > _REPORT_LIMIT:
        raise HistoryError("the stored report is too large", where=where)
    try:
        data = json.loads(stored)
    except (ValueError, RecursionError) as problem:
        raise HistoryError(f"the stored report is damaged: {problem}", where=where) from problem
    found = documents.decode(Report, data, where=where, error=HistoryError)
    if found.measurement is None:
        raise HistoryError("the stored report has no measurement", where=where)
    starts = accumulate(unpack(packed_starts)) if packed_starts else found.measurement.sample_starts_ns
    whole = replace(found.measurement, latency_samples_ns=unpack(packed), sample_starts_ns=tuple(starts))
    return replace(found, measurement=whole)
