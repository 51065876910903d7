"""build/accuracy.json and build/accuracy.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import verdicts

_HEAD = ("tool", "score", "drop", "SQNR dB", "optimisation off", "size KB", "of float", "s", "peak MB", "in float")
_TITLES = {
    "models": "The models as they are, static INT8",
    "rescaled": "The same with channels rescaled by random factors, evenly in the logarithm from 1/64 to 64",
    "weights": "The recurrent cell and the transformer, by scheme",
}
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "asimddp")


def host() -> dict[str, Any]:
    """What this machine is: kernels, and so scores, depend on it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    words = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in reversed(lines)}
    flags = (words.get("flags") or words.get("Features") or "").split()
    return {
        "machine": platform.machine(),
        "cpu": words.get("model name", "unknown"),
        "features": [name for name in _FEATURES if name in flags],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def write(document: dict[str, Any], output: Path) -> None:
    """Both files; the Markdown lies beside the JSON."""
    document["bars"] = verdicts.bars(document)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1) + "\n")
    output.with_suffix(".md").write_text("\n".join(lines(document)) + "\n")


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The whole report."""
    machine = document["host"]
    yield "# INT8 by edgeq and by its peers"
    yield ""
    features = ", ".join(machine["features"])
    yield f"Host: {machine['cpu']}, {machine['cores']} cores, {features}; Python {machine['python']}."
    yield from _REMARKS
    for section, title in _TITLES.items():
        models = [one for one in document["models"] if one["section"] == section]
        if models:
            yield from ("", f"## {title}")
        for one in models:
            yield from _model(one)
    yield from ("", "## Bars", "", "| bar | | figures |", "|---|---|---|")
    for bar in verdicts.bars(document):
        word = {True: "holds", False: "MISSED", None: "-"}[bar["holds"]]
        yield f"| {bar['what']} | {word} | {bar['told']} |"
    yield from _versions(document)


_REMARKS = (
    "",
    "Scored by tests/bench/scored.py, which imports nothing of edgeq: dataset.yaml's steps, plain runtimes, the first",
    "output. SQNR is that output's to the float model's. `+-` is twice the standard deviation over samples drawn",
    "again (bootstrap): of the score in float's row, of the difference to float in the others. Seconds and peak memory",
    "are of whole processes with imports; edgeq's also decode the samples, score the float and the INT8 model on all",
    "evaluation samples, and try other settings where the first lose too much; the peers' read ready arrays and only",
    "quantize. `in float`: operators that compute on float values; in ONNX, QDQ pairs count as integers.",
    "A figure in {braces} was read from peers.md: another machine (AVX2, no VNNI), not measured in this run.",
)


def _model(one: Mapping[str, Any]) -> Iterator[str]:
    first = one["rows"][0]
    yield from ("", f"### {one['case']}, {one['format']} ({first['metric']}, {first['samples']} samples)", "")
    yield f"| {' | '.join(_HEAD)} |"
    yield f"|{'---|' * len(_HEAD)}"
    for row in one["rows"]:
        yield f"| {' | '.join(_cells(row))} |"
    for verdict in one["verdicts"]:
        yield from ("", _said(verdict))


def _cells(row: Mapping[str, Any]) -> list[str]:
    if row["score"] is None:
        return [row["tool"], _read(row), "", _read(row, "sqnr_db"), "", "", "", "", "", row["problem"]]
    plain = row["plain_score"]
    return [
        row["tool"],
        f"{row['score']:.4f}" + (f" +- {row['noise']:.4f}" if row["tool"] == "float" else ""),
        "" if row["tool"] == "float" else f"{row['drop']:+.4f} +- {row['noise']:.4f}",
        _figure(row["sqnr_db"], ".1f"),
        "" if plain is None else f"{plain:.4f} ({row['plain_sqnr_db']:.1f} dB)",
        _figure(row["size_bytes"] / 1000, ".1f"),
        f"{row['share']:.1%}",
        _figure(row["seconds"], ".1f"),
        _figure(row["peak_mb"], ".0f"),
        _in_float(row["in_float"]),
    ]


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _read(row: Mapping[str, Any], key: str = "score") -> str:
    found = row["read"]
    if key not in found:
        return ""
    return f"{{{found[key]:g}" + (f" ({found['plain']:g})" if key == "score" and "plain" in found else "") + "}"


def _in_float(counts: Mapping[str, int]) -> str:
    named = sorted(counts.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {count}" for name, count in named[:4])
    return f"{sum(counts.values())}" + (f": {shown}{' ...' if len(named) > 4 else ''}" if named else "")


def _said(verdict: Mapping[str, Any]) -> str:
    source = " (read from peers.md)" if verdict["is_read"] else ""
    score = "holds" if verdict["holds"] else "MISSED"
    clear = "holds" if verdict["sqnr_holds"] else "MISSED"
    return (
        f"- {verdict['mode']} against the best peer{source}: score {score} ({-verdict['behind']:+.4g} to "
        f"{verdict['peer']}, noise {verdict['noise']:.2g}); SQNR {clear} ({verdict['sqnr_gain_db']:+.1f} dB to "
        f"{verdict['best_sqnr_peer']})"
    )


def _versions(document: Mapping[str, Any]) -> Iterator[str]:
    """Each tool's versions and environment, as its rows tell them."""
    yield from ("", "## Tools", "", "| tool | versions | where | settings and notes, by model |", "|---|---|---|---|")
    rows = [row for one in document["models"] for row in one["rows"] if row["tool"] != "float"]
    for tool in dict.fromkeys(row["tool"] for row in rows):
        own = [row for row in rows if row["tool"] == tool]
        versions = dict.fromkeys(f"{k} {v}" for row in own for k, v in row["versions"].items())
        places = dict.fromkeys(row["environment"] or row["problem"] for row in own)
        notes = dict.fromkeys(f"{row['case']}.{row['format']}: {row['notes'][0]}" for row in own if row["notes"])
        cells = (tool, ", ".join(versions), "; ".join(filter(None, places)), "; ".join(notes))
        yield f"| {' | '.join(cells)} |"
