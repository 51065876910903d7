"""Where an operator must run, derived a second time: from the operator table to the verdict, for the audit of plans.

Nothing here asks `placement` or `arriving`. What is shared are facts: the graph's view, the measures of constraints,
what converters write, and which operators are sensitive.
"""

from __future__ import annotations

from edgeq.planning.audit import arrived, fresh
from edgeq.planning.audit.ask import Ask, Verdict, broken, has_float
from edgeq.types import OperatorTable


def verdict(ask: Ask, cpu: OperatorTable | None) -> Verdict:
    """The verdict by the table, and where that denies the operator, by the CPU's."""
    derive = arrived.verdict if ask.scheme.name == "as_is" else fresh.verdict
    if cpu is None or ask.table.fallback == "none":
        return _alone(ask, derive(ask, False))
    first = derive(ask, True)
    if not _is_denied(ask, first):
        return _named(first, ask.table)
    second = derive(ask._replace(table=cpu), False)
    if second.placement == "refused":
        return Verdict("refused", first.signature, _reason(ask, first))
    own = second.rule in ("kept-in-float", "left-in-float", "constants-only", "folded")
    return second if own else second._replace(rule="falls-back-to-cpu")


def _alone(ask: Ask, found: Verdict) -> Verdict:
    """The verdict where no table of the CPU stands behind."""
    if ask.table.placement == "cpu":
        return found
    if not _is_denied(ask, found):
        return _named(found, ask.table)
    if found.placement == "refused":
        return found
    if ask.table.fallback == "none":
        return Verdict("refused", found.signature, _reason(ask, found))
    own = found.rule in ("kept-in-float", "left-in-float", "constants-only", "folded")
    return found if own else found._replace(rule="falls-back-to-cpu")


def _named(found: Verdict, table: OperatorTable) -> Verdict:
    return found if found.placement == "refused" else found._replace(placement=table.placement)


def _is_denied(ask: Ask, found: Verdict) -> bool:
    if found.rule in ("constants-only", "folded"):
        return False
    if found.placement == "refused" or broken(ask):
        return True
    rows = ask.row.signatures if ask.row else None
    if rows is None:
        return False
    if found.rule == "carries-integers":
        return found.signature not in {one.activations for one in rows}
    return found.placement == "float" and not has_float(ask, strict=True, weighted="/" in found.signature)


def _reason(ask: Ask, found: Verdict) -> str:
    return broken(ask) or (found.rule if found.placement == "refused" else "signature-unsupported")
