"""The faults that `make bench-doctor` plants, and the rules that find each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from edgeq import datasets
from edgeq.types import Dataset, InputSpec, LabelSpec, ModelGraph

Array = np.ndarray[Any, Any]
CLASS = ("top1", "top5", "f1", "auc")
STEPS = ("scale", "mean", "std")
FILES = ("name", "images", "list", "resize")


class Material(NamedTuple):
    """Stored samples and labels with the steps that prepare them; `label_is_input` for an autoencoder."""

    inputs: tuple[Array, ...]
    specs: tuple[InputSpec, ...]
    labels: Array | None
    label_spec: LabelSpec | None
    metric: str
    label_is_input: bool = False
    calibration: tuple[int, ...] = ()
    evaluation: tuple[int, ...] = ()

    def write(self, folder: Path, graph: ModelGraph) -> Dataset:
        """The dataset, as edgeq reads it from files."""
        arrays = {f"x{place}": array for place, array in enumerate(self.inputs)}
        if self.labels is not None:
            arrays["y"] = self.labels
        np.savez(folder / "samples.npz", **arrays)
        specs = tuple(
            dataclasses.replace(spec, npz="samples.npz", array=f"x{place}", **dict.fromkeys(FILES), color="rgb")
            for place, spec in enumerate(self.specs)
        )
        labels = (
            dataclasses.replace(self.label_spec, npz="samples.npz", array="y", csv=None, column=None)
            if self.label_spec
            else None
        )
        dataset = Dataset(
            path=str(folder / "dataset.yaml"), root=str(folder), inputs=specs, labels=labels, metric=self.metric,
            count=len(self.inputs[0]), calibration=self.calibration, evaluation=self.evaluation,
        )  # fmt: skip
        return datasets.bind(dataset, graph)


Plant = Callable[[Material, np.random.Generator], "Material | None"]


class Fault(NamedTuple):
    """A way to spoil samples; None from `plant` where a case cannot have it. `names` are the rules that are right,
    `finds` all that would make the user look at the right place."""

    name: str
    plant: Plant
    matters: Literal["always", "score", "ranges"]
    names: frozenset[str]
    finds: frozenset[str]


def _first(material: Material, array: Array) -> Material:
    """The first input replaced; an autoencoder's labels are its input."""
    labels = array.astype(np.float32) if material.label_is_input else material.labels
    return material._replace(inputs=(array, *material.inputs[1:]), labels=labels)


def _is_real(material: Material) -> bool:
    return material.metric != "pair_spearman"


def _has_steps(spec: InputSpec) -> bool:
    return any(getattr(spec, key) is not None for key in STEPS)


def _prepared(array: Array, spec: InputSpec) -> Array:
    scale, mean, std = (np.asarray(getattr(spec, key) if getattr(spec, key) is not None else neutral, np.float32)
                        for key, neutral in zip(STEPS, (1, 0, 1), strict=True))  # fmt: skip
    return ((array.astype(np.float32) * scale - mean) / std).astype(np.float32)


def _respec(material: Material, **steps: Any) -> Material:
    return material._replace(specs=(dataclasses.replace(material.specs[0], **steps), *material.specs[1:]))


def scaled_twice(material: Material, _random: np.random.Generator) -> Material | None:
    if not _has_steps(material.specs[0]):
        return None
    return _first(material, _prepared(material.inputs[0], material.specs[0]))


def not_scaled(material: Material, _random: np.random.Generator) -> Material | None:
    if not _has_steps(material.specs[0]):
        return None
    return _respec(material, scale=None, mean=None, std=None)


def scaled_needlessly(material: Material, _random: np.random.Generator) -> Material | None:
    if _has_steps(material.specs[0]) or not _is_real(material):
        return None
    return _respec(material, scale=1 / 255)


def other_convention(material: Material, _random: np.random.Generator) -> Material | None:
    """0..1 for -1..1, and -1..1 for all else."""
    if material.inputs[0].dtype != np.uint8:
        return None
    symmetric = material.specs[0].mean == 1.0
    return _respec(material, scale=1 / 255 if symmetric else 2 / 255, mean=None if symmetric else 1.0, std=None)


def rows_for_columns(material: Material, _random: np.random.Generator) -> Material | None:
    """Height and width exchanged: directly where they are equal, else by reading a matrix in the wrong order."""
    array = material.inputs[0]
    shape = array.shape[1:]
    if material.label_is_input:
        return _first(
            material, np.ascontiguousarray(array.reshape(len(array), 5, 128).swapaxes(1, 2)).reshape(array.shape)
        )
    if not _is_real(material) or len(shape) < 2:
        return None
    return _first(material, np.ascontiguousarray(array.swapaxes(1, 2)).reshape(array.shape))


def planes_for_pixels(material: Material, _random: np.random.Generator) -> Material | None:
    """Pictures stored channel first, read as if channel last."""
    array = material.inputs[0]
    if array.ndim != 4 or array.shape[-1] != 3:
        return None
    return _first(material, np.ascontiguousarray(np.moveaxis(array, -1, 1)).reshape(array.shape))


def colours_exchanged(material: Material, _random: np.random.Generator) -> Material | None:
    array = material.inputs[0]
    if array.ndim != 4 or array.shape[-1] != 3:
        return None
    return _first(material, np.ascontiguousarray(array[..., ::-1]))


def _few(count: int) -> Plant:
    def plant(material: Material, random: np.random.Generator) -> Material:
        return material._replace(
            calibration=tuple(int(n) for n in random.choice(material.calibration, count, replace=False))
        )

    return plant


def copies(material: Material, random: np.random.Generator) -> Material:
    """Four samples, again and again."""
    return _copied(material, random, 0.0)


def near_copies(material: Material, random: np.random.Generator) -> Material | None:
    """Four samples, again and again, each time with a little noise."""
    wide = material.inputs[0][0].size >= 16 and _is_real(material)
    return _copied(material, random, 0.005) if wide else None


def _copied(material: Material, random: np.random.Generator, noise: float) -> Material:
    chosen = random.choice(material.calibration, 4, replace=False)
    arrays = []
    for array in material.inputs:
        changed = array.copy()
        for place, number in enumerate(material.calibration):
            sample = array[chosen[place % 4]].astype(np.float64)
            if noise:
                sample = sample + random.normal(0, noise * array.std(), sample.shape)
            changed[number] = _stored(sample, array)
        arrays.append(changed)
    return material._replace(inputs=tuple(arrays))


def _stored(values: Array, like: Array) -> Array:
    if like.dtype.kind == "f":
        return values.astype(like.dtype)
    limits = np.iinfo(like.dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(like.dtype)


def one_class(material: Material, random: np.random.Generator) -> Material | None:
    """All calibration samples of one class."""
    if material.metric not in CLASS or material.labels is None:
        return None
    rows = np.array((*material.calibration, *material.evaluation))
    classes, counts = np.unique(material.labels[rows], return_counts=True)
    wanted = len(material.calibration)
    if counts.max() < 8:
        return None
    own = rows[material.labels[rows] == classes[int(counts.argmax())]]
    chosen = random.permutation(own)[: min(wanted, len(own) * 3 // 4)]
    rest = [int(row) for row in rows if row not in set(chosen.tolist())]
    return material._replace(calibration=tuple(sorted(map(int, chosen))), evaluation=tuple(sorted(rest)))


def all_alike(material: Material, random: np.random.Generator) -> Material | None:
    """The samples that are nearest to one of them, where there are no classes."""
    if material.metric in CLASS:
        return None
    array = material.inputs[0]
    rows = np.array(sorted((*material.calibration, *material.evaluation)))
    flat = array[rows].reshape(len(rows), -1).astype(np.float32)
    near = np.argsort(((flat - flat[random.integers(len(rows))]) ** 2).sum(axis=1))
    chosen = set(rows[near[: max(4, min(len(material.calibration), len(rows) // 4))]].tolist())
    if material.metric == "pair_spearman":
        return material._replace(calibration=tuple(sorted(chosen)))
    rest = tuple(int(row) for row in rows if row not in chosen)
    return material._replace(calibration=tuple(sorted(chosen)), evaluation=rest)


def constant(material: Material, _random: np.random.Generator) -> Material | None:
    if not _is_real(material):
        return None
    array = material.inputs[0]
    labels = material.labels
    changed = np.full_like(array, _stored(np.asarray(array.mean()), array))
    return material._replace(inputs=(changed, *material.inputs[1:]), labels=labels)


def saturated(material: Material, _random: np.random.Generator) -> Material | None:
    """Contrast times four, clipped to the range that there was."""
    if not _is_real(material):
        return None
    array = material.inputs[0].astype(np.float64)
    centre = array.mean()
    grown = np.clip((array - centre) * 4 + centre, array.min(), array.max())
    return _first(material, _stored(grown, material.inputs[0]))


def labels_off_by_one(material: Material, _random: np.random.Generator) -> Material | None:
    if material.metric not in (*CLASS, "miou") or material.labels is None:
        return None
    ignore = material.label_spec.ignore if material.label_spec else None
    kept = material.labels if ignore is None else material.labels[material.labels != ignore]
    moved = (material.labels.astype(np.int64) + 1) % (int(kept.max()) + 1)
    return material._replace(labels=np.where(material.labels == ignore, material.labels, moved).astype(np.int64))


def labels_displaced(material: Material, _random: np.random.Generator) -> Material | None:
    return None if material.labels is None else material._replace(labels=np.roll(material.labels, 1, axis=0))


def labels_shuffled(material: Material, random: np.random.Generator) -> Material | None:
    return None if material.labels is None else material._replace(labels=random.permutation(material.labels))


def classes_renamed(material: Material, random: np.random.Generator) -> Material | None:
    """The classes in another order."""
    if material.metric not in CLASS or material.labels is None:
        return None
    count = int(material.labels.max()) + 1
    return material._replace(labels=random.permutation(count)[material.labels.astype(np.int64)])


def scored_too(material: Material, _random: np.random.Generator) -> Material:
    """Half of the calibration samples are scored."""
    width = 2 if material.metric == "pair_spearman" else 1
    count = max(width, len(material.calibration) // 2 // width * width)
    return material._replace(calibration=(*material.evaluation[:count], *material.calibration[count:]))


def scored_copies(material: Material, _random: np.random.Generator) -> Material:
    """Half of the calibration samples have the content of scored ones, under other numbers."""
    half = len(material.calibration) // 2
    arrays = []
    for array in material.inputs:
        changed = array.copy()
        changed[list(material.calibration[:half])] = array[list(material.evaluation[:half])]
        arrays.append(changed)
    return material._replace(inputs=tuple(arrays))


def noise(material: Material, random: np.random.Generator) -> Material | None:
    """Calibration samples are random numbers in the stored range."""
    if not _is_real(material):
        return None
    array = material.inputs[0].copy()
    chosen = list(material.calibration)
    drawn = random.uniform(float(array.min()), float(array.max()), (len(chosen), *array.shape[1:]))
    array[chosen] = _stored(drawn, array)
    return material._replace(inputs=(array, *material.inputs[1:]))


def other_gain(material: Material, _random: np.random.Generator) -> Material | None:
    """Calibration samples have a quarter of the contrast of those that are scored."""
    if not _is_real(material):
        return None
    array = material.inputs[0].copy()
    chosen = list(material.calibration)
    array[chosen] = _stored(array[chosen].astype(np.float64) / 4, array)
    return material._replace(inputs=(array, *material.inputs[1:]))


def _rules(*names: str) -> frozenset[str]:
    return frozenset(names)


_CHANCE = _rules("at-chance", "constant-answers", "broken-answers", "refused")
_SCALING, _LAYOUT = _rules("other-scaling", "constant-answers"), _rules("other-layout")
_CONSTANT = _rules("constant-input", "copied-samples") | _CHANCE
_FEW = _rules("one-sample", "ranges-too-narrow", "copied-samples")
_ALIKE = _rules("classes-missing", "ranges-too-narrow", "unlike-scored", "copied-samples")
_UNLIKE = _rules("unlike-scored", "ranges-too-narrow", "ranges-too-wide")
_LABELS = _rules("labels-shifted", "labels-displaced", "classes-renamed", "labels-contradicted", "at-chance", "refused")

FAULTS: tuple[Fault, ...] = (
    Fault("scaled twice", scaled_twice, "score", _SCALING, _SCALING | _CHANCE),
    Fault("not scaled", not_scaled, "score", _SCALING, _SCALING | _CHANCE),
    Fault("scaled needlessly", scaled_needlessly, "score", _SCALING, _SCALING | _CHANCE),
    Fault("other convention", other_convention, "score", _SCALING, _SCALING | _CHANCE),
    Fault("rows for columns", rows_for_columns, "score", _LAYOUT, _LAYOUT | _CHANCE),
    Fault("planes for pixels", planes_for_pixels, "score", _LAYOUT, _LAYOUT | _CHANCE),
    Fault("colours exchanged", colours_exchanged, "score", _rules("other-colours"), _rules("other-colours") | _CHANCE),
    Fault("one sample", _few(1), "always", _rules("one-sample"), _FEW),
    Fault("two samples", _few(2), "ranges", _FEW, _FEW),
    Fault("four samples", _few(4), "ranges", _FEW, _FEW),
    Fault("copies", copies, "always", _rules("copied-samples"), _rules("copied-samples")),
    Fault("near copies", near_copies, "always", _rules("copied-samples"), _rules("copied-samples")),
    Fault("one class", one_class, "always", _rules("classes-missing"), _ALIKE),
    Fault("all alike", all_alike, "ranges", _ALIKE, _ALIKE),
    Fault("constant", constant, "score", _rules("constant-input"), _CONSTANT),
    Fault("saturated", saturated, "score", _rules("clipped-values"), _rules("clipped-values") | _CHANCE),
    Fault("labels off by one", labels_off_by_one, "score", _rules("labels-shifted", "refused"), _LABELS),
    Fault("labels displaced", labels_displaced, "score", _rules("labels-displaced"), _LABELS),
    Fault("labels shuffled", labels_shuffled, "score", _rules("at-chance", "labels-contradicted"), _LABELS),
    Fault("classes renamed", classes_renamed, "score", _rules("classes-renamed", "labels-shifted"), _LABELS),
    Fault("scored too", scored_too, "always", _rules("calibration-is-scored"), _rules("calibration-is-scored")),
    Fault("scored copies", scored_copies, "always", _rules("calibration-is-scored"), _rules("calibration-is-scored")),
    Fault("noise", noise, "ranges", _UNLIKE, _UNLIKE | _rules("clipped-values")),
    Fault("other gain", other_gain, "ranges", _UNLIKE, _UNLIKE),
)  # fmt: skip
