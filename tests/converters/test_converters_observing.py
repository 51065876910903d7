"""One pass over calibration samples: what it finds, what it keeps, how it goes on, what it says of broken samples."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.converters import kept, observing
from edgeq.converters.observing import Ranges, Shown, Store
from edgeq.errors import ConvertError, ModelError
from edgeq.quantization.observers import BINS, RangeObserver
from edgeq.types import RangeMethod, silent

METHODS: tuple[RangeMethod, ...] = get_args(RangeMethod)
LABELS = {"t0": "first", "t1": "second"}
COUNT = 12
Array = NDArray[Any]


class Network:
    """Two tensors made of each sample; counts its runs, and stops before sample number `stop`."""

    def __init__(self, stop: int | None = None) -> None:
        self.runs = 0
        self.stop = stop

    def watch(self, samples: Iterable[tuple[Array, ...]]) -> Iterator[Mapping[str, Array]]:
        for (sample,) in samples:
            if self.runs == self.stop:
                raise KeyboardInterrupt
            self.runs += 1
            yield {"t0": sample, "t1": sample * 2 - 1, "out": np.zeros(1, np.float32)}


def shown(seed: int = 0, fingerprint: str = "a", count: int = COUNT) -> Shown:
    random = np.random.default_rng(seed)
    samples = [(random.standard_normal(300).astype(np.float32) * (k + 1),) for k in range(count)]
    return Shown(samples, range(100, 100 + count), "d.yaml", fingerprint)


def observe(method: RangeMethod, network: Network, given: Shown, store: Store | None = None) -> Ranges:
    return observing.ranges(method, LABELS, given, network.watch, silent, "m.onnx", store)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "states", "model", 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_ranges_do_not_depend_on_whether_a_state_is_kept(method: RangeMethod, store: Store) -> None:
    plain = observe(method, Network(), shown())
    assert list(plain) == ["first", "second"]
    assert observe(method, Network(), shown(), store) == plain


def test_nothing_is_written_without_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    observe("percentile", Network(), shown())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_pass_is_not_done_again(method: RangeMethod, store: Store) -> None:
    first = observe(method, Network(), shown(), store)
    again = Network()
    assert observe(method, again, shown(), store) == first
    assert again.runs == 0


def test_one_pass_serves_all_methods(store: Store) -> None:
    observe("percentile", Network(), shown(), store)
    for method in METHODS:
        network = Network()
        assert observe(method, network, shown(), store) == observe(method, Network(), shown())
        assert network.runs == 0


def test_min_max_alone_keeps_no_histograms_and_serves_no_other_method(store: Store) -> None:
    observe("min-max", Network(), shown(), store)
    (path,) = store.folder.iterdir()
    assert path.stat().st_size < 1000
    network = Network()
    observe("percentile", network, shown(), store)
    assert network.runs == COUNT


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("stop", [1, 5, COUNT - 1])
def test_an_interrupted_pass_goes_on_after_the_last_sample_that_was_saved(
    method: RangeMethod, stop: int, store: Store
) -> None:
    with pytest.raises(KeyboardInterrupt):
        observe(method, Network(stop), shown(), store)
    rest = Network()
    assert observe(method, rest, shown(), store) == observe(method, Network(), shown())
    assert rest.runs == COUNT - stop


def test_between_two_savings_nothing_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, "model", 3600)
    with pytest.raises(KeyboardInterrupt):
        observe("percentile", Network(5), shown(), store)
    assert list(tmp_path.iterdir()) == []
    observe("percentile", Network(), shown(), store)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("method", ["min-max", "percentile"])
def test_min_max_does_not_go_on_from_the_middle_of_another_methods_pass(method: RangeMethod, store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        observe("percentile", Network(4), shown(), store)
    network = Network()
    assert observe(method, network, shown(), store) == observe(method, Network(), shown())
    assert network.runs == (COUNT if method == "min-max" else COUNT - 4)


@pytest.mark.parametrize(
    ("given", "model"),
    [(shown(fingerprint="b"), "model"), (shown(count=COUNT - 1), "model"), (shown(), "another model")],
)
def test_other_samples_or_another_model_start_anew(given: Shown, model: str, store: Store) -> None:
    observe("percentile", Network(), shown(), store)
    network = Network()
    observe("percentile", network, given, store._replace(model=model))
    assert network.runs == len(given.numbers)


def test_progress_begins_where_the_pass_goes_on(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        observe("percentile", Network(5), shown(), store)
    told: list[int] = []
    observing.ranges(
        "percentile", LABELS, shown(), Network().watch, lambda _, done, count: told.append(done), "m.onnx", store
    )
    assert told == list(range(5, COUNT + 1))


def test_a_state_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    """A full disk under the cache must not cost the conversion."""
    (tmp_path / "states").write_text("a file where the folder should be")
    broken = Store(tmp_path / "states", "model", 0.0)
    assert observe("percentile", Network(), shown(), broken) == observe("percentile", Network(), shown())
    assert (tmp_path / "states").read_text() == "a file where the folder should be"


def test_forgetting_removes_states_and_nothing_else(store: Store) -> None:
    for method in METHODS[:2]:
        observe(method, Network(), shown(), store)
    (store.folder / "plan.json").write_text("{}")
    kept.forget(store.folder)
    assert [path.name for path in store.folder.iterdir()] == ["plan.json"]


# --- what was not written by us --------------------------------------------------------------


def state(folder: Path, names: tuple[str, ...] = ("a", "b")) -> tuple[kept.File, bytes]:
    """A state of two tensors, and its content."""
    file, observer = kept.File(folder, bytes(32), names, True), RangeObserver("percentile")
    observer.update("a", np.array([1, -2, 3], np.float32))
    kept.write(file, observer, 4)
    return file, file.path.read_bytes()


def resealed(content: bytes | bytearray) -> bytes:
    """The same with a digest that is right."""
    return bytes(content[:-32]) + hashlib.sha256(bytes(content[:-32])).digest()


def test_a_state_comes_back_and_a_tensor_that_was_not_seen_stays_so(tmp_path: Path) -> None:
    file, _ = state(tmp_path)
    observer = RangeObserver("percentile")
    assert kept.read(file, observer, 9) == 4
    assert observer.ranges() == {"a": (-2, 3)}


@pytest.mark.parametrize("samples", [0, 3])
def test_a_state_of_more_samples_than_there_are_is_not_taken(tmp_path: Path, samples: int) -> None:
    assert kept.read(state(tmp_path)[0], RangeObserver("percentile"), samples) == 0


def test_another_key_or_other_names_are_not_taken(tmp_path: Path) -> None:
    file, content = state(tmp_path)
    other = file._replace(key=bytes([1] * 32))
    other.path.write_bytes(content)
    assert kept.read(other, RangeObserver("percentile"), 9) == 0
    assert kept.read(file._replace(names=("a", "b", "c")), RangeObserver("percentile"), 9) == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 4000), flip=st.integers(1, 255))
def test_a_flipped_byte_is_noticed(tmp_path: Path, place: int, flip: int) -> None:
    file, content = state(tmp_path)
    broken = bytearray(content)
    broken[place * 30 % len(broken)] ^= flip
    file.path.write_bytes(broken)
    observer = RangeObserver("percentile")
    assert kept.read(file, observer, 9) == 0
    assert observer.ranges() == {}


@pytest.mark.parametrize("change", [lambda c: b"", lambda c: c[:-1], lambda c: c + b"\0", lambda c: b"\0" * len(c)])
def test_another_size_or_nothing_but_zeros_is_not_taken(tmp_path: Path, change: Any) -> None:
    file, content = state(tmp_path)
    file.path.write_bytes(change(content))
    assert kept.read(file, RangeObserver("percentile"), 9) == 0


@pytest.mark.parametrize("kind", ["missing", "a folder", "a broken link"])
def test_what_is_no_file_is_not_taken(tmp_path: Path, kind: str) -> None:
    file, _ = state(tmp_path)
    file.path.unlink()
    if kind == "a folder":
        file.path.mkdir()
    if kind == "a broken link":
        file.path.symlink_to(tmp_path / "nowhere")
    assert kept.read(file, RangeObserver("percentile"), 9) == 0


FIGURES = 20 + 32 + 12  # where the doubles of the first tensor begin


@pytest.mark.parametrize(
    "figures",
    [(3.0, -2.0, 4.0), (-2.0, 3.0, 3.5), (-2.0, 3.0, 2.0), (-2.0, np.inf, 4.0), (-2.0, 3.0, np.inf), (-2, 3.0, -4.0)],
)
def test_figures_that_no_observer_has_are_not_taken_though_their_digest_is_right(
    tmp_path: Path, figures: tuple[float, float, float]
) -> None:
    file, content = state(tmp_path)
    changed = bytearray(content)
    struct.pack_into("<ddd", changed, FIGURES, *figures)
    file.path.write_bytes(resealed(changed))
    assert kept.read(file, RangeObserver("percentile"), 9) == 0


def test_counts_below_zero_are_not_taken(tmp_path: Path) -> None:
    file, content = state(tmp_path)
    changed = bytearray(content)
    struct.pack_into("<q", changed, FIGURES + 2 * 24 + 8 * (BINS // 2), -1)
    file.path.write_bytes(resealed(changed))
    assert kept.read(file, RangeObserver("percentile"), 9) == 0


@pytest.mark.parametrize("bins", [0, 8, 2**31])
def test_another_number_of_bins_is_not_taken(tmp_path: Path, bins: int) -> None:
    file, content = state(tmp_path)
    changed = bytearray(content)
    struct.pack_into("<I", changed, FIGURES - 4, bins)
    file.path.write_bytes(resealed(changed))
    assert kept.read(file, RangeObserver("percentile"), 9) == 0


def test_a_damaged_state_costs_a_pass_and_is_replaced(store: Store) -> None:
    observe("percentile", Network(), shown(), store)
    (path,) = store.folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    network = Network()
    assert observe("percentile", network, shown(), store) == observe("percentile", Network(), shown())
    assert network.runs == COUNT
    assert path.read_bytes() == whole


# --- broken samples --------------------------------------------------------------------------


def breaking(*values: tuple[float, ...]) -> Any:
    """Three tensors: the values of t0, of t1, and of the output at the third sample."""
    fine = (1.0, 1.0, 1.0)

    def watch(samples: Iterable[tuple[Array, ...]]) -> Iterator[Mapping[str, Array]]:
        for place, _ in enumerate(samples):
            names = zip(("t0", "t1", "out"), values[0] if place == 2 else fine, strict=True)
            yield {name: np.array([0, value], np.float64) for name, value in names}

    return watch


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("values", "told", "kind"),
    [
        ((np.nan, 1, 1), "tensor 'first' becomes NaN for calibration sample 102", ModelError),
        ((1, np.nan, np.nan), "tensor 'second' becomes NaN for calibration sample 102", ModelError),
        ((np.inf, np.nan, np.nan), "'first' becomes infinite for calibration sample 102, the first of 2", ModelError),
        ((1, np.inf, np.nan), "tensor 'second' becomes infinite", ModelError),
        ((1, -np.inf, 1), "tensor 'second' becomes infinite for calibration sample 102", ConvertError),
        ((1, 1e300, 1), "tensor 'second' becomes infinite", ConvertError),
    ],
)
def test_the_first_broken_tensor_and_its_sample_are_named(
    method: RangeMethod, values: tuple[float, ...], told: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=told) as caught:
        observing.ranges(method, LABELS, shown(), breaking(values), silent, "m.onnx")
    assert caught.value.where == "m.onnx"  # type: ignore[attr-defined]
    assert caught.value.hint == "edgeq doctor m.onnx --data d.yaml"  # type: ignore[attr-defined]


def test_samples_before_the_broken_one_are_kept(store: Store) -> None:
    for number in (102, 104):  # the third of those that are shown breaks: the second time two are not shown
        with pytest.raises(ModelError, match=f"sample {number}"):
            observing.ranges("percentile", LABELS, shown(), breaking((np.nan, 1, 1)), silent, "m.onnx", store)
