"""For each operator of a plan: what it could not have, why, and the smallest change that would give it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from edgeq.planning import edits, ground, placement, rules
from edgeq.planning import view as views
from edgeq.planning.accelerator import NAMES
from edgeq.planning.ground import Placed, Survey
from edgeq.planning.rules import Subject
from edgeq.types import FLOAT32, Alternative, Check, Placement, Scheme, Signature


class Missed(NamedTuple):
    """A better place or signature that an operator could not have, with the rule against it."""

    what: str
    rule: str
    why: str
    wanted: Signature


def explained(survey: Survey, placed: tuple[Placed, ...], scheme: Scheme) -> tuple[Placement, ...]:
    """The placements of a plan with their alternatives, best first, and the edit that gives the best of them."""
    return tuple(_explained(survey, number, one, scheme) for number, one in enumerate(placed))


def _explained(survey: Survey, number: int, one: Placed, scheme: Scheme) -> Placement:
    subject, failure = survey.subjects[number]
    wanted = _wanted(subject, one, scheme)
    missed = [*_off_accelerator(one, subject, wanted), *_on_cpu(survey, number, one, wanted, failure)]
    alternatives = tuple({entry.what: Alternative(what=entry.what, why=entry.why) for entry in missed}.values())
    return dataclasses.replace(ground.shown(one), alternatives=alternatives, edit=_edit(missed, subject, one))


def _wanted(subject: Subject, one: Placed, scheme: Scheme) -> Signature:
    if scheme.name == "as_is":
        return one.signature
    return placement.wanted_of(subject.look, subject.operator, scheme.default)


def _off_accelerator(one: Placed, subject: Subject, wanted: Signature) -> list[Missed]:
    if one.denied is None:
        return []
    return [Missed(NAMES[subject.table.placement], one.denied.rule, one.denied.why, wanted)]


def _on_cpu(survey: Survey, number: int, one: Placed, wanted: Signature, failure: Check | None) -> list[Missed]:
    """What the table that decided at last did not allow."""
    subject = survey.subjects[number][0]
    if one.denied is not None and survey.cpu is not None:
        subject, failure = survey.cpu.subjects[number]
    if one.placement == "refused":
        return _refused(one, subject, wanted)
    if one.placement == "float" and one.rule != "stays-float":
        return _in_float(one, subject, wanted, failure)
    return _coarser(one, subject, wanted)


def _refused(one: Placed, subject: Subject, wanted: Signature) -> list[Missed]:
    why = one.failure.why if one.failure else one.why
    found = [Missed(str(wanted), one.rule, why, wanted)]
    row = subject.row
    if row is not None and ground.fits(row, FLOAT32, has_weights=bool(views.weights(subject.look, subject.operator))):
        return found
    words = "has no float kernel for it" if row is not None else f"has no {subject.operator.type}"
    return [*found, Missed("float", one.rule, f"{subject.table.name} {words}.", wanted)]


def _in_float(one: Placed, subject: Subject, wanted: Signature, failure: Check | None) -> list[Missed]:
    if failure is not None:
        return [Missed(str(wanted), failure.rule, failure.why, wanted)]
    if wanted.activations not in views.QUANTIZED and wanted.weights not in views.QUANTIZED:
        return []
    if one.rule == "falls-back-to-float":
        failed = rules.signature_unsupported(subject, wanted)
        return [Missed(str(wanted), failed.rule, failed.why, wanted)]
    return [Missed(str(wanted), one.rule, one.why, wanted)]


def _coarser(one: Placed, subject: Subject, wanted: Signature) -> list[Missed]:
    """One scale where there could be one for each channel."""
    if (one.signature.granularity, wanted.granularity) != ("per-tensor", "per-channel"):
        return []
    why = f"{subject.table.name} has a kernel for per-tensor weights only."
    return [Missed(str(wanted), "granularity", why, wanted)]


def _edit(missed: list[Missed], subject: Subject, one: Placed) -> str | None:
    """The change for the best that was missed; off the accelerator there is always the cut."""
    if not missed:
        return None
    found = edits.edit(missed[0].rule, subject, missed[0].wanted)
    if found is None and one.denied is not None and one.placement != "refused":
        return edits.cut(subject)
    if found is None and one.placement == "refused":
        return one.failure.hint if one.failure else None
    return found
