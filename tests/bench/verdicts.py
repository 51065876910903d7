"""What the figures say: edgeq against the best peer, model by model, and the bars over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import metrics
from accuracy_rows import Row, Scorer

EDGEQ = ("edgeq", "edgeq --prefer accuracy")
SAME_DB = 0.05
"""SQNR that differs by less is the same."""
MIN_MAX = ("tf_ptq", "ort")
"""Peers with the true minimum and maximum and a scale for each output channel."""
WITHIN = 0.005
LOST = 0.5
CHANCE = 0.02
"""How little better than the most frequent class is still chance: with two classes nobody can lose 50 points."""
SHARE_8_BITS, SHARE_4_BITS = (0.30, 0.01), (0.20, 0.03)
FOUR_BITS = ("text_minilm_l3",)


class Verdict(NamedTuple):
    """One of edgeq's ways against the best peer on one model.

    `behind` is by how much its score is worse (negative: better), `noise` twice the standard deviation of that over
    samples drawn again. `is_lucky` tells that the peer scores better than the float model, which nobody aims at;
    `is_read` that its figure is peers.md's.
    """

    mode: str
    peer: str
    behind: float
    noise: float
    holds: bool
    best_sqnr_peer: str
    sqnr_gain_db: float
    sqnr_holds: bool
    is_lucky: bool
    is_read: bool = False


class Compared(NamedTuple):
    """Rows of one model and what is said of them."""

    rows: list[Row]
    verdicts: list[Verdict]
    chance: float


def compared(rows: list[Row], scorer: Scorer) -> Compared:
    """Hold edgeq's rows against the peers' that were measured, and against those that could only be read."""
    others = [row for row in rows if row.tool not in (*EDGEQ, "float")]
    measured = [row for row in others if row.score is not None]
    unread = [row for row in others if row.score is None and row.read]
    found: list[Verdict] = []
    for row in rows if rows[0].section != "weights" else ():
        if row.tool in EDGEQ and row.score is not None:
            found += [_against(row, measured, scorer)] if measured else []
            found += [_against_read(row, unread, scorer)] if unread else []
    return Compared(rows, found, scorer.chance())


def _against(row: Row, peers: Sequence[Row], scorer: Scorer) -> Verdict:
    best = min(peers, key=lambda peer: number(peer.drop))
    clear = max(peers, key=lambda peer: number(peer.sqnr_db))
    behind, gain = number(row.drop) - number(best.drop), number(row.sqnr_db) - number(clear.sqnr_db)
    noise = scorer.noise(row.tool, best.tool)
    return Verdict(
        row.tool, best.tool, behind, noise, behind <= noise, clear.tool, gain, gain >= -SAME_DB, number(best.drop) < 0
    )


def _against_read(row: Row, peers: Sequence[Row], scorer: Scorer) -> Verdict:
    """Against figures of another machine, whose answers are not here: noise as if it strayed as edgeq does."""
    sign = 1 if metrics.HIGHER_IS_BETTER.get(row.metric, True) else -1
    best = max(peers, key=lambda peer: sign * peer.read["score"])
    clear = max(peers, key=lambda peer: peer.read.get("sqnr_db", -1e9))
    behind = sign * (best.read["score"] - number(row.score))
    gain = number(row.sqnr_db) - clear.read.get("sqnr_db", -1e9)
    noise = math.sqrt(2) * scorer.noise(row.tool, "float")
    lucky, holds = number(row.drop) - behind < 0, behind <= noise + _rounding(best.read["score"])
    return Verdict(row.tool, best.tool, behind, noise, holds, clear.tool, gain, gain >= -SAME_DB, lucky, True)


def _rounding(figure: float) -> float:
    """By how much a figure of peers.md may be off: it has four digits behind the point, or two."""
    return 5e-5 if abs(figure) <= 1 else 5e-3


def number(value: float | None) -> float:
    """A figure that must be there."""
    if value is None:
        raise ValueError("a row without figures is not compared")
    return value


# --- bars over all models -----------------------------------------------------------------------


def bars(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The issue's bars as lines: what, whether it holds (None: not decided by what was run), and the figures."""
    return [*_as_good(document), *_sums(document), *_rescaled(document), *_weights(document)]


def _models(document: Mapping[str, Any], section: str) -> list[Mapping[str, Any]]:
    return [one for one in document["models"] if one["section"] == section]


def _line(what: str, holds: bool | None, told: str) -> dict[str, Any]:
    return {"what": what, "holds": holds, "told": told}


def _as_good(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for mode in EDGEQ:
        for is_read in (False, True):
            found = [
                (one, verdict)
                for one in _models(document, "models")
                for verdict in one["verdicts"]
                if verdict["mode"] == mode and verdict["is_read"] is is_read
            ]
            against = "peers' figures read from peers.md, of another machine" if is_read else "peers measured here"
            for what, key in (("score at least the best peer's, within noise", "holds"), ("SQNR", "sqnr_holds")):
                failed = [_failed(one, verdict, key) for one, verdict in found if not verdict[key]]
                told = f"{len(found) - len(failed)} of {len(found)}" + "".join(f"; {words}" for words in failed)
                holds = None if is_read or not found else not failed
                yield _line(f"{mode}: {what} ({against})", holds, told)


def _failed(one: Mapping[str, Any], verdict: Mapping[str, Any], key: str) -> str:
    name = f"{one['case']}.{one['format']}"
    if key == "holds":
        told = f"{name} is {verdict['behind']:.4g} behind {verdict['peer']} (noise {verdict['noise']:.2g}"
        return f"{told}, which is better than float itself)" if verdict["is_lucky"] else f"{told})"
    return f"{name} is {-verdict['sqnr_gain_db']:.1f} dB behind {verdict['best_sqnr_peer']}"


def _sums(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Sums of drops, each in units of the float score's own noise, since metrics have unlike units."""
    tables = [_by_tool(one) for one in _models(document, "models")]
    peers = sorted({tool for rows in tables for tool in rows} - {*EDGEQ, "float"})
    for mode in EDGEQ:
        both = [(rows, _best(rows, peers)) for rows in tables if mode in rows and _best(rows, peers) is not None]
        yield _sum_line(mode, "the best peer of each model", [(rows[mode], best) for rows, best in both])
        for peer in peers:
            yield _sum_line(mode, peer, [(rows[mode], rows[peer]) for rows in tables if {mode, peer} <= rows.keys()])


def _by_tool(one: Mapping[str, Any]) -> dict[str, Any]:
    unit = next(row["noise"] for row in one["rows"] if row["tool"] == "float") or 1.0
    return {row["tool"]: {**row, "unit": unit} for row in one["rows"] if row["score"] is not None}


def _best(rows: Mapping[str, Any], peers: Sequence[str]) -> Any:
    return min((rows[peer] for peer in peers if peer in rows), key=lambda row: row["drop"], default=None)


def _sum_line(mode: str, peer: str, pairs: Sequence[tuple[Any, Any]]) -> dict[str, Any]:
    ours, theirs = (
        (sum(row["drop"] / row["unit"] for row in side) for side in zip(*pairs, strict=True)) if pairs else (0, 0)
    )
    points = [pair for pair in pairs if pair[0]["metric"] in ("top1", "miou", "cosine", "pair_spearman")]
    plain = [100 * sum(row["drop"] for row in side) for side in zip(*points, strict=True)] if points else [0, 0]
    told = f"{ours:.2f} against {theirs:.2f}, {len(pairs)} models; in points (top1, mIoU, cosine, rank correlation) "
    return _line(
        f"{mode}: sum of drops below that of {peer} (each over the noise of its float score)",
        bool(ours < theirs) if pairs else None,
        f"{told}{plain[0]:.2f} against {plain[1]:.2f}, {len(points)} models",
    )


def _rescaled(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for one in _models(document, "rescaled"):
        rows = {row["tool"]: row for row in one["rows"] if row["score"] is not None}
        plain = next((rows[tool] for tool in MIN_MAX if tool in rows), None)
        for mode in EDGEQ:
            ours = rows.get(mode)
            if plain is not None and ours is not None:
                told = f"{100 * ours['drop']:.2f} points lost, {plain['tool']} loses {100 * plain['drop']:.1f}"
                is_lost = plain["drop"] > LOST or plain["score"] <= one["chance"] + CHANCE
                holds = bool(ours["drop"] <= WITHIN + 1e-9) if is_lost else None
                name = f"{one['case']}.{one['format']} with rescaled channels"
                yield _line(
                    f"{mode}: {name}: within 0.5 points where min-max loses over 50 or is at chance", holds, told
                )


def _weights(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Each scheme's figures; the bar of 8 bits is held by the best of them."""
    for one in _models(document, "weights"):
        rows = [row for row in one["rows"] if row["score"] is not None and row["tool"] != "float"]
        four = [row for row in rows if row["tool"].endswith("wi4")]
        eight = [row for row in rows if row not in four]
        yield _share_line(one, eight, "8-bit weights", *SHARE_8_BITS)
        if one["case"] in FOUR_BITS:
            yield _share_line(one, four, "4-bit weights", *SHARE_4_BITS)


def _share_line(
    one: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], what: str, share: float, drop: float
) -> dict[str, Any]:
    told = "; ".join(f"{row['tool']} {100 * row['share']:.1f} %, drop {row['drop']:.4f}" for row in rows)
    holds = any(row["share"] < share and row["drop"] <= drop + 1e-9 for row in rows) if rows else None
    name = f"{one['case']}.{one['format']}, {what}"
    return _line(f"{name}: a scheme under {share:.0%} of the float file that loses at most {drop}", holds, told)
