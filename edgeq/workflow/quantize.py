"""Plan, convert, score; then the bundle."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import edgeq
from edgeq import backends, datasets, store, targets
from edgeq.converters import peak_rss_bytes, rusage_peak_bytes
from edgeq.errors import BuildError, EdgeqError
from edgeq.types import Bundle, Dataset, ModelGraph, Plan, Predicted, Progress, QuantizedModel, Target, silent
from edgeq.workflow import diagnosis
from edgeq.workflow.plan import Wish, default_output, planned, read_model, safe_name
from edgeq.workflow.plan import write as write_plan

if TYPE_CHECKING:
    from edgeq import planning

GOLDEN_BYTES = 8 << 20
SEARCH_REPORT = "search.html"
LATER_STAGES = (
    "quantized.json",
    SEARCH_REPORT,
    "bundle/manifest.json",
    "bundle/quantized.json",
    "measurement.json",
    "validation.json",
    "report.json",
)


BUILDERS = {"litert": "linux", "onnxruntime": "linux", "vela": "ethosu", "tflite-micro": "mcu"}
"""Modules of `edgeq.builders` by the runtime that a plan takes."""

Pack = Callable[..., Bundle]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The plan says no: nothing was converted."""

    plan: Plan


class Job(NamedTuple):
    """One conversion to do: the model, how it is planned, its samples, where results go."""

    graph: ModelGraph
    planned: planning.Planned
    dataset: Dataset
    folder: Path
    name: str


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
    job = _prepare(model, target, data, output, wish or Wish(), progress)
    return job if isinstance(job, Refused) else _convert(job, target, wish or Wish(), resume, progress)


def _prepare(model: Path, target: str, data: str, output: Path | None, wish: Wish, progress: Progress) -> Job | Refused:
    folder = output or default_output(model, target)
    graph = read_model(model, folder, progress, target=target)
    found = planned(graph, target, wish)
    write_plan(folder, found.chosen, graph, target)
    if not found.chosen.ok:
        _forget(folder)
        return Refused(plan=found.chosen)
    return Job(graph, found, datasets.bind(datasets.load(data), graph), folder, safe_name(model.stem))


def _convert(job: Job, target: str, wish: Wish, resume: bool, progress: Progress) -> QuantizedModel:
    from edgeq import planning, search
    from edgeq.report import html
    from edgeq.runtimes import preflight
    from edgeq.search import kept

    started = time.monotonic()
    request = _request(job, wish)
    done = _resumed(job.folder, request) if resume else None
    if done is not None:
        write_plan(job.folder, done.plan, job.graph, target)
        return done
    _forget(job.folder)
    preflight.check(Path(job.graph.path), job.graph.format)
    plans = [plan for plan in job.planned.candidates if plan.ok]
    out = job.folder / f"{job.name}_{_suffix(job.planned.chosen)}.{job.graph.format}"
    findings = list(diagnosis.glance(job.graph, job.dataset, progress))
    hear = diagnosis.listener(job.dataset, job.graph.path, findings)
    keep = kept.folder_of(job.folder, request)
    kept.forget(job.folder, but=keep if resume else None)
    with _kept_if_cut_short(job.folder):
        found = search.search(
            job.graph,
            plans,
            job.dataset,
            out,
            max_drop=wish.budgets.max_drop,
            min_sqnr_db=wish.budgets.min_sqnr_db,
            progress=progress,
            hear=hear,
            island=functools.partial(planning.with_islands, job.planned) if wish.scheme is None else None,
            keep=keep,
            processes=wish.workers,
            cpu=targets.load(target).cpu,
        )
    seconds = time.monotonic() - started
    found = _laid_out(found, job.graph)
    settled = planning.settled(job.planned, found.plan, found.tried)
    taken = dataclasses.replace(settled, trials=found.plan.trials)
    found = dataclasses.replace(found, plan=taken, request=request, seconds=seconds, peak_rss_bytes=_peak_rss_bytes())
    found = dataclasses.replace(found, findings=tuple(findings))
    write_plan(job.folder, found.plan, job.graph, target)
    store.write(job.folder / "quantized.json", found)
    if len(found.plan.trials) > 1:
        store.write_bytes(job.folder / SEARCH_REPORT, html.search(found).encode())
    kept.forget(job.folder)
    return found


@contextlib.contextmanager
def _kept_if_cut_short(folder: Path) -> Iterator[None]:
    """Attempts outlive Ctrl-C and a crash; an error that would come again is no reason to keep them."""
    try:
        yield
    except EdgeqError:
        from edgeq.search import kept

        kept.forget(folder)
        raise


def _laid_out(found: QuantizedModel, graph: ModelGraph) -> QuantizedModel:
    """The I/O contract of an imported model, with the order of axes that differs from the user's own model."""
    sides = ((found.inputs, graph.input_layouts), (found.outputs, graph.output_layouts))
    inputs, outputs = (
        tuple(dataclasses.replace(port, layout=layout) for port, layout in zip(ports, layouts, strict=True))
        if layouts
        else ports
        for ports, layouts in sides
    )
    return dataclasses.replace(found, inputs=inputs, outputs=outputs)


def _forget(folder: Path) -> None:
    """Remove what an earlier request left, so that nobody takes it for this one's."""
    for name in LATER_STAGES:
        with store.writing(folder / name):
            (folder / name).unlink(missing_ok=True)


def _suffix(chosen: Plan) -> str:
    return "as_is" if chosen.scheme.name == "as_is" else "quantized"


def _request(job: Job, wish: Wish) -> str:
    """Hash over all that a conversion depends on."""
    parts = (
        edgeq.__version__,
        job.graph.sha256,
        datasets.fingerprint(job.dataset),
        _lasting(job.planned.chosen),
        _of_answer(wish),
    )
    return hashlib.sha256(repr((*parts, _of_answer(wish))).encode()).hexdigest()


def _of_answer(wish: Wish) -> Wish:
    """A wish without what only changes how fast the answer is found."""
    return dataclasses.replace(wish, workers=1)


def _lasting(chosen: Plan) -> Plan:
    """A plan without what a measurement changes, which is no reason to convert again."""
    return dataclasses.replace(chosen, predicted=Predicted(), unavailable={}, checks=(), rejected=())


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
    return max(peak_rss_bytes(), rusage_peak_bytes(resource.RUSAGE_CHILDREN))


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
    job = _prepare(model, target, data, output, wish or Wish(), progress)
    if isinstance(job, Refused):
        return job, None
    profile = targets.load(target)
    _builder(profile, job.planned.chosen.runtime)  # what is missing is better known before minutes of work
    found = _convert(job, target, wish or Wish(), resume, progress)
    if not holds(found):
        return found, None
    return found, _bundle(found, job, _builder(profile, found.plan.runtime), resume, progress)


def holds(found: QuantizedModel) -> bool:
    """Whether a conversion kept its accuracy; one that could not be scored is taken on trust of the format."""
    return found.accuracy is None or found.accuracy.ok


def _bundle(found: QuantizedModel, job: Job, pack: Pack, resume: bool, progress: Progress) -> Bundle:
    from edgeq.lab import deploy as deploying

    out = job.folder / "bundle"
    if resume and (out / "quantized.json").is_file():
        packed = store.read(out / "quantized.json", QuantizedModel)
        if packed.request == found.request and packed.artifact == found.artifact:
            return deploying.load_bundle(out)
    progress("building the bundle", 0, 1)
    samples = datasets.samples(job.dataset, job.graph, _golden(job.dataset, job.graph))
    name = f"{job.name}-{found.artifact.sha256[:12]}"
    built = pack(found, job.folder, samples, out, name)
    progress("building the bundle", 1, 1)
    return built


def _builder(target: Target, runtime: str) -> Pack:
    """What packs a bundle for a runtime; raises BuildError where nothing does, ToolError for a missing compiler."""
    if runtime not in BUILDERS:
        raise BuildError(
            f"edgeq plans and quantizes for {runtime}, but builds no bundle for it yet",
            where=target.name,
            hint="edgeq quantize MODEL -t TARGET --data DATASET writes the INT8 model that its own compiler takes",
        )
    pack = backends.find("builders", BUILDERS[runtime]).build
    if runtime == "vela":
        from edgeq import tools

        tools.find("vela")
        pack = functools.partial(pack, accelerator=target.accelerator)
    if BUILDERS[runtime] == "mcu":
        pack = functools.partial(pack, target=target)
    return cast("Pack", pack)


def _golden(dataset: Dataset, graph: ModelGraph) -> list[int]:
    """16 to 32 evaluation samples, evenly spread, fewer where they are large."""
    size = sum(graph.tensors[index].size_bytes for index in graph.inputs)
    wanted = max(16, min(32, GOLDEN_BYTES // max(size, 1)))
    pool = dict.fromkeys((*dataset.evaluation, *dataset.calibration))
    numbers = list(pool)[: max(len(dataset.evaluation), wanted)]
    return datasets.spread(numbers, wanted)
