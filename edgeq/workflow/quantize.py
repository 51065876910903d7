"""Plan, convert, score; then the bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import edgeq
from edgeq import backends, datasets, search, store, targets
from edgeq.types import Bundle, Dataset, ModelGraph, Plan, Progress, QuantizedModel, Target, silent
from edgeq.workflow.plan import Wish, candidates, choose, default_output, read_model, safe_name

GOLDEN_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The plan says no: nothing was converted."""

    plan: Plan


def quantize(
    model: Path,
    target: str,
    data: str,
    *,
    output: Path | None = None,
    wish: Wish | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> QuantizedModel | Refused:
    """Plan, convert, score against float; written to plan.json, quantized.json and the model file.

    Returns Refused when no scheme fits the target; a result whose `accuracy.ok` is False when none keeps the accuracy.
    """
    return _quantize(model, target, data, output, wish or Wish(), resume, progress)[0]


def _quantize(
    model: Path, target: str, data: str, output: Path | None, wish: Wish, resume: bool, progress: Progress
) -> tuple[QuantizedModel | Refused, ModelGraph, Dataset]:
    from edgeq.runtimes import preflight

    started = time.monotonic()
    folder = store.make_folder(output or default_output(model, target))
    graph = read_model(model, folder, progress)
    dataset = datasets.bind(datasets.load(data), graph)
    chosen = choose(graph, target, wish)
    store.write(folder / "plan.json", chosen)
    if not chosen.ok:
        return Refused(plan=chosen), graph, dataset
    request = _request(graph, dataset, chosen, wish)
    done = _resumed(folder, request) if resume else None
    if done is not None:
        return done, graph, dataset
    (folder / "quantized.json").unlink(missing_ok=True)
    preflight.check(Path(graph.path), graph.format)
    out = folder / f"{safe_name(model.stem)}_{_suffix(chosen)}.{graph.format}"
    plans = [dataclasses.replace(p, rejected=chosen.rejected) for p in candidates(graph, target, wish)]
    found = search.search(graph, plans, dataset, out, max_drop=wish.budgets.max_drop, progress=progress)
    found = dataclasses.replace(
        found, request=request, seconds=time.monotonic() - started, peak_rss_bytes=_peak_rss_bytes()
    )
    store.write(folder / "plan.json", found.plan)
    store.write(folder / "quantized.json", found)
    return found, graph, dataset


def _suffix(chosen: Plan) -> str:
    return "as_is" if chosen.scheme.name == "as_is" else "quantized"


def _request(graph: ModelGraph, dataset: Dataset, chosen: Plan, wish: Wish) -> str:
    """Hash over all that a conversion depends on."""
    parts = (edgeq.__version__, graph.sha256, datasets.fingerprint(dataset), chosen.target, wish)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _resumed(folder: Path, request: str) -> QuantizedModel | None:
    """A finished conversion of the same request whose file is still whole."""
    path = folder / "quantized.json"
    if not path.is_file():
        return None
    found = store.read(path, QuantizedModel)
    file = folder / found.artifact.path
    whole = found.request == request and file.is_file() and store.sha256(file) == found.artifact.sha256
    return found if whole else None


def _peak_rss_bytes() -> int:
    """Peak memory of this process and of its children so far, whichever is larger."""
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def build(
    model: Path,
    target: str,
    data: str,
    *,
    output: Path | None = None,
    wish: Wish | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[QuantizedModel | Refused, Bundle | None]:
    """All that `quantize` does, then the bundle; no bundle when the accuracy does not hold."""
    folder = output or default_output(model, target)
    found, graph, dataset = _quantize(model, target, data, folder, wish or Wish(), resume, progress)
    if isinstance(found, Refused) or not holds(found):
        return found, None
    return found, _bundle(found, graph, dataset, folder, targets.load(target), resume, progress)


def holds(found: QuantizedModel) -> bool:
    """Whether a conversion kept its accuracy; one that could not be scored is taken on trust of the format."""
    return found.accuracy is None or found.accuracy.ok


def _bundle(
    found: QuantizedModel,
    graph: ModelGraph,
    dataset: Dataset,
    folder: Path,
    target: Target,
    resume: bool,
    progress: Progress,
) -> Bundle:
    from edgeq.lab import deploy as deploying

    out = folder / "bundle"
    if resume and (out / "quantized.json").is_file():
        packed = store.read(out / "quantized.json", QuantizedModel)
        if packed.request == found.request and packed.artifact == found.artifact:
            return deploying.load_bundle(out)
    progress("building the bundle", 0, 1)
    samples = datasets.samples(dataset, graph, _golden(dataset, graph))
    builder = backends.find("builders", "linux" if target.kind == "android" else target.kind)
    built = cast(Bundle, builder.build(found, folder, samples, out, _bundle_name(found, graph)))
    progress("building the bundle", 1, 1)
    return built


def _bundle_name(found: QuantizedModel, graph: ModelGraph) -> str:
    return f"{safe_name(Path(graph.path).stem)}-{found.artifact.sha256[:12]}"


def _golden(dataset: Dataset, graph: ModelGraph) -> list[int]:
    """16 to 32 evaluation samples, evenly spread, fewer where they are large."""
    import numpy as np

    size = sum(graph.tensors[index].size_bytes for index in graph.inputs)
    wanted = max(16, min(32, GOLDEN_BYTES // max(size, 1)))
    pool = dict.fromkeys((*dataset.evaluation, *dataset.calibration))
    numbers = list(pool)[: max(len(dataset.evaluation), wanted)]
    places = np.unique(np.linspace(0, len(numbers) - 1, wanted).round().astype(int))
    return [numbers[place] for place in places]
