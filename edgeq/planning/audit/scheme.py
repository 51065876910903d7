"""Whether the scheme of a plan, and what differs from it, follow from the model and the placements."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.planning import schemes
from edgeq.planning import view as views
from edgeq.planning.audit import arrived, figures
from edgeq.planning.audit.scene import Finding, Scene, inner_rule, ladder
from edgeq.types import FLOAT32, Scheme

_FRAMED = ("folded", "falls-back-to-float", "operator-unknown", "constraint-violated", "left-in-float")
_UNTOUCHED = ("constants-only", "carries-integers", "converts-types")


def findings(scene: Scene) -> Iterator[Finding]:
    """The scheme is one of the ladder's, the one that was asked for, and differs where the placements say so."""
    plan, graph = scene.plan, scene.look.graph
    scheme = plan.scheme
    if scheme.name == "as_is":
        yield from _as_is(scene)
        return
    if schemes.bare(scheme) not in [rung.scheme for rung in ladder(scene)]:
        yield Finding("scheme", _told(scheme), "another", f"no such scheme is planned for {graph.format} on this CPU")
    if plan.forced_scheme not in (None, scheme.name):
        yield Finding("scheme", scheme.name, str(plan.forced_scheme), "another scheme was asked for")
    wanted = _overrides(scene)
    for index in sorted(scheme.overrides.keys() | wanted.keys()):
        claimed = str(scheme.overrides.get(index, "none"))
        if claimed != wanted.get(index, "none"):
            yield Finding(f"override {index}", claimed, wanted.get(index, "none"), "the operator's placement says so")


def _as_is(scene: Scene) -> Iterator[Finding]:
    """The default of a file that came quantized is the signature that most layers have."""
    look, scheme = scene.look, scene.plan.scheme
    layers = [operator for operator in look.graph.operators if views.weights(look, operator)]
    found = [arrived.stored(look, operator) for operator in layers or look.graph.operators]
    most = max((found.count(one) for one in found), default=0)
    if scheme.overrides or (found and found.count(scheme.default) != most) or (not found and scheme.default != FLOAT32):
        yield Finding("scheme", _told(scheme), "the file's own", "the layers in the file have other data types")


def _told(scheme: Scheme) -> str:
    return f"{schemes.label(scheme)} {scheme.default}"


def _overrides(scene: Scene) -> dict[int, str]:
    """What must differ from the default, as the placements say."""
    scheme, graph = scene.plan.scheme, scene.look.graph
    found = {}
    for operator, one in zip(graph.operators, scene.plan.operators, strict=True):
        rule = inner_rule(scene, operator.index, one)
        if operator.subgraph or rule in _UNTOUCHED or one.placement == "refused":
            continue
        if graph.format == "onnx" and scheme.is_static and rule in _FRAMED:
            continue
        kind, weights, _, granularity = figures.parts(one.signature)
        in_float = one.placement == "float" or (kind not in views.QUANTIZED and weights not in views.QUANTIZED)
        coarser = granularity not in (None, scheme.default.granularity)
        wider = scheme.expands_weights and weights not in (None, scheme.default.weights)
        if (scheme.is_static or rule == "falls-back-to-float") if in_float else (coarser or wider):
            found[one.index] = one.signature
    return found
