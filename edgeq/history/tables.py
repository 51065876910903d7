"""The tables of the run history, and the steps by which they came to be.

A database says how many of STEPS it has seen; a newer edgeq does the others. A step that was released never changes.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE edgeq_runs (
            id VARCHAR(40) NOT NULL PRIMARY KEY, natural_key VARCHAR(64) NOT NULL UNIQUE, at {time} NOT NULL,
            edgeq_version TEXT NOT NULL, host TEXT NOT NULL, command TEXT NOT NULL, folder TEXT NOT NULL,
            model TEXT NOT NULL, model_sha256 TEXT NOT NULL, artifact_sha256 TEXT NOT NULL,
            target TEXT NOT NULL, device TEXT NOT NULL, hardware TEXT NOT NULL,
            runtime TEXT NOT NULL, runtime_version TEXT NOT NULL, threads INTEGER, scheme TEXT NOT NULL,
            size_bytes BIGINT, metric TEXT, accuracy {real}, p50_ms {real}, p90_ms {real}, p99_ms {real},
            batch INTEGER NOT NULL, samples {bytes} NOT NULL, peak_rss_bytes BIGINT, energy_mj {real},
            parity_ok BOOLEAN, throttled BOOLEAN, conditions TEXT NOT NULL, ok BOOLEAN NOT NULL, report TEXT NOT NULL
        )""",
        "CREATE INDEX edgeq_runs_at ON edgeq_runs (at)",
        "CREATE INDEX edgeq_runs_what ON edgeq_runs (model, target, device, at)",
    ),
    (
        """CREATE TABLE edgeq_labels (
            run_id VARCHAR(40) NOT NULL REFERENCES edgeq_runs (id) ON DELETE CASCADE, label VARCHAR(100) NOT NULL,
            PRIMARY KEY (run_id, label)
        )""",
        "CREATE INDEX edgeq_labels_label ON edgeq_labels (label)",
    ),
    ("ALTER TABLE edgeq_runs ADD COLUMN starts {bytes}",),
)
TYPES = {
    "sqlite": {"time": "DATETIME", "real": "DOUBLE PRECISION", "bytes": "BLOB"},
    "postgresql": {"time": "TIMESTAMP WITH TIME ZONE", "real": "DOUBLE PRECISION", "bytes": "BYTEA"},
}


class UtcTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite has no zones, so none is stored there."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """Into UTC, without its zone for SQLite."""
        if value is None:
            return None
        moment = value.astimezone(timezone.utc)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        """With its zone, UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


metadata = MetaData()
schema = Table("edgeq_schema", metadata, Column("version", Integer, nullable=False))
runs = Table(
    "edgeq_runs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("natural_key", String(64), nullable=False, unique=True),
    Column("at", UtcTime, nullable=False),
    *(
        Column(name, Text, nullable=False)
        for name in ("edgeq_version", "host", "command", "folder", "model", "model_sha256", "artifact_sha256",
                     "target", "device", "hardware", "runtime", "runtime_version")
    ),
    Column("threads", Integer),
    Column("scheme", Text, nullable=False),
    Column("size_bytes", BigInteger),
    Column("metric", Text),
    *(Column(name, Double) for name in ("accuracy", "p50_ms", "p90_ms", "p99_ms")),
    Column("batch", Integer, nullable=False),
    Column("samples", LargeBinary, nullable=False),
    Column("peak_rss_bytes", BigInteger),
    Column("energy_mj", Double),
    Column("parity_ok", Boolean),
    Column("throttled", Boolean),
    Column("conditions", Text, nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("report", Text, nullable=False),
    Column("starts", LargeBinary),
)  # fmt: skip
labels = Table(
    "edgeq_labels",
    metadata,
    Column("run_id", String(40), ForeignKey("edgeq_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("label", String(100), primary_key=True, index=True),
)
