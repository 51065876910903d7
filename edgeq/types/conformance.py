"""What running an operator table's signatures through the real runtime showed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeq.types.targets import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One signature of one operator to try; `claimed` is what the table says of it.

    `variant` names what sets a case apart beside its data types, such as a rank that a constraint forbids.
    """

    operator: str
    signature: Signature
    claimed: bool
    variant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the real thing did with a case.

    `runs`: computed where the table says, near to float. `refused`: an error, or placed elsewhere. `wrong`: ran, but
    its answer is not near to float. `untried`: no model of the case can be built; `why` says what is missing.
    """

    case: Case
    result: Literal["runs", "refused", "wrong", "untried"]
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableProof:
    """An operator table against the real thing, in numbers of signatures.

    `proved` claims run; `false_claims` do not; `missed` run although the table denies them; `denied` are denials that
    hold; `untried` could not be built. `details` are the outcomes that are not as the table says, and the untried.
    """

    name: str
    runtime: str
    version: str
    date: str
    table_sha256: str
    result_sha256: str
    proved: int
    false_claims: int
    missed: int
    denied: int
    untried: int
    details: tuple[Outcome, ...]
    schema_version: int = 1
