"""SVDF against LiteRT's reference; the LSTM against tflite-micro's arithmetic written in NumPy, and near LiteRT."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.codegen import fixed_point, layouts, multipliers, tables
from edgeq.codegen.multipliers import Multiplier
from edgeq.testing import kernels
from edgeq.testing.kernel_cases import cases, check, grids, random_s8, seeds
from edgeq.testing.single_op import Grid, constant, reference, single, tensor
from edgeq.testing.tflite import Tensor, tflite_bytes

Array = NDArray[Any]
Libraries = dict[str, ctypes.CDLL]
GATES = ("forget", "input", "cell", "output")


def rescaled(values: Array, made: Multiplier) -> Array:
    flat = [fixed_point.rescale(int(value), *made) for value in values.ravel()]
    return np.array(flat, np.int64).reshape(values.shape)


# --- curves of 16 bits -----------------------------------------------------------------------


def curve(operator: str, values: Array) -> Array:
    """LiteRT's int16 LOGISTIC or TANH of Q3.12 values: a table, interpolated, as tflite-micro's."""
    ends = [tensor("in", values.shape, Grid(2.0**-12), "int16")], [tensor("out", values.shape, Grid(2.0**-15), "int16")]
    return reference(single(operator, *ends, version=3), values.astype(np.int16))[0].astype(np.int64)


def logistic(q12: Array) -> Array:
    """The same, in NumPy."""
    table = tables.sigmoid().astype(np.int64)
    scaled = 3 * q12.astype(np.int64)
    size = abs(scaled)
    entry = np.minimum(size >> 9, 254)
    y = (table[entry] << 9) + (size & 511) * (table[entry + 1] - table[entry])
    y = np.where(size >> 9 >= 255, 0x7FFF << 10, y)
    return np.where(scaled >= 0, y + 512, (1 << 25) - y + 511) >> 10


def tanh(q12: Array, power: int = 0) -> Array:
    table = tables.sigmoid().astype(np.int64)
    wide = 3 * q12.astype(np.int64)
    scaled = wide << power if power >= 0 else (wide + (1 << (-power - 1))) >> -power
    size = abs(scaled)
    entry = np.minimum(size >> 8, 254)
    y = (table[entry] << 8) + (size & 255) * (table[entry + 1] - table[entry])
    y = np.where(size >> 8 >= 255, 0xFFFF << 8, y)
    return np.where(scaled >= 0, y - (1 << 23) + 128, -y + (1 << 23) + 127) >> 8


def test_the_table_of_the_curves_is_litert_s(library: ctypes.CDLL) -> None:
    every = np.arange(-32768, 32768)
    check("LOGISTIC", curve("LOGISTIC", every), logistic(every))
    check("TANH", curve("TANH", every), tanh(every))
    table = (ctypes.c_uint16 * 256).in_dll(library, "eq_sigmoid_table")
    assert list(table) == tables.sigmoid().tolist()


# --- SVDF ------------------------------------------------------------------------------------


@given(
    sizes=st.tuples(*(st.integers(1, top) for top in (2, 9, 4, 3, 5))),
    source=grids,
    out=grids,
    wide=st.booleans(),
    seed=seeds,
)
@cases(150)
def test_svdf(library: ctypes.CDLL, sizes: Any, source: Grid, out: Grid, wide: bool, seed: int) -> None:
    batches, in_c, units, rank, memory = sizes
    filters = units * rank
    rng = np.random.default_rng(seed)
    dtype: Any = np.int16 if wide else np.int8
    state_grid = Grid(2.0**-9 if wide else 2.0**-4, 0 if wide else int(rng.integers(-9, 9)))
    feature_scale = float(np.float32(state_grid.scale / source.scale / in_c))
    time_scale = float(np.float32(out.scale / state_grid.scale / (64 if wide else 4) / memory))
    features = np.maximum(random_s8(seed + 1, (filters, in_c)), -127).astype(np.int8)
    times = rng.integers(-127, 128, (filters, memory)).astype(dtype)
    bias = rng.integers(-500, 500, units).astype(np.int32)
    feeds = [random_s8(seed + number, (batches, in_c)) for number in range(4)]
    made = multipliers.svdf(source.scale, feature_scale, state_grid.scale, time_scale, out.scale)
    wanted = svdf(feeds, (features, times, bias), (source, state_grid, out), made, rank)
    if wide:
        near = litert_svdf(feeds, (features, times, bias), (source, state_grid, out), (feature_scale, time_scale), rank)
        for want, other in zip(wanted, near, strict=True):
            check("SVDF", other, want, "NumPy against LiteRT")
    params = kernels.SvdfParams(
        batches, in_c, filters, rank, memory, wide, -source.zero_point, state_grid.zero_point, out.zero_point,
        made.feature.mantissa, made.out.mantissa, made.feature.right_shift, made.out.right_shift,
    )  # fmt: skip
    state = np.full((batches, filters * memory), state_grid.zero_point, dtype)
    for feed, want in zip(feeds, wanted, strict=True):
        output = np.full((batches, units), 99, np.int8)
        arrays = (feed, features, times, bias, state, output)
        library.eq_svdf_s8(ctypes.byref(params), *(kernels.pointer(array) for array in arrays))
        check("SVDF", want, output)


Constants = tuple[Array, Array, Array]
Ends = tuple[Grid, Grid, Grid]


def svdf(feeds: list[Array], constants: Constants, ends: Ends, made: multipliers.Svdf, rank: int) -> list[Array]:
    """tflite-micro's SVDF in NumPy, for either width of state (LiteRT knows int16 only)."""
    features, times, bias = (one.astype(np.int64) for one in constants)
    limits = np.iinfo(constants[1].dtype)
    state = np.full((len(feeds[0]), *times.shape), ends[1].zero_point, np.int64)
    answers = []
    for feed in feeds:
        new = rescaled((feed.astype(np.int64) - ends[0].zero_point) @ features.T, made.feature) + ends[1].zero_point
        state = np.concatenate([state[:, :, 1:], np.clip(new, limits.min, limits.max)[:, :, np.newaxis]], axis=2)
        sums = ((state - ends[1].zero_point) * times).sum(axis=2).reshape(len(feed), -1, rank).sum(axis=2) + bias
        answers.append(np.clip(rescaled(sums, made.out) + ends[2].zero_point, -128, 127).astype(np.int8))
    return answers


def litert_svdf(
    feeds: list[Array], constants: Constants, ends: Ends, weight_scales: tuple[float, float], rank: int
) -> list[Array]:
    features, times, bias = constants
    state = Tensor(
        name="state", shape=(len(feeds[0]), times.size), dtype="int16", scales=(ends[1].scale,), zero_points=(0,),
        variable=True,
    )  # fmt: skip
    biases = Grid(float(np.float32(ends[1].scale) * np.float32(weight_scales[1])))
    inputs = [
        tensor("in", feeds[0].shape, ends[0]), constant("features", features, Grid(weight_scales[0])),
        constant("times", times, Grid(weight_scales[1])), constant("bias", bias, biases), state,
    ]  # fmt: skip
    options = {"rank": rank, "fusedActivationFunction": 1}
    output = tensor("out", (len(feeds[0]), len(bias)), ends[2])
    graph = replace(single("SVDF", inputs, [output], "SVDFOptions", options, version=3), inputs=("in",))
    return sequence(tflite_bytes(graph, signature=False), feeds)


def sequence(model: bytes, feeds: list[Array]) -> list[Array]:
    """Answers to one input after another, the variables kept from one to the next."""
    from ai_edge_litert import interpreter as litert

    made = litert.Interpreter(model_content=model, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF)
    made.allocate_tensors()
    answers = []
    for feed in feeds:
        made.set_tensor(made.get_input_details()[0]["index"], feed)
        made.invoke()
        answers.append(np.array(made.get_tensor(made.get_output_details()[0]["index"])))
    return answers


# --- LSTM ------------------------------------------------------------------------------------


class Gate(NamedTuple):
    """One gate's constants."""

    input_weights: Array
    recurrent_weights: Array
    bias: Array
    input: Multiplier
    recurrent: Multiplier


class Cell(NamedTuple):
    """An LSTM's constants."""

    gates: dict[str, Gate]
    source: Grid
    hidden: Grid
    products: multipliers.Lstm


def clip16(values: Array) -> Array:
    return np.clip(values, -32768, 32767)


def lstm(cell: Cell, feed: Array) -> Array:
    """tflite-micro's integer LSTM in NumPy; feed [steps, in_c], states from their zero."""
    cells = len(cell.gates["cell"].bias)
    hidden, state, shown = np.full(cells, cell.hidden.zero_point, np.int64), np.zeros(cells, np.int64), []
    for x in feed.astype(np.int64):
        sums = {}
        for name, gate in cell.gates.items():
            first = gate.input_weights.astype(np.int64) @ (x - cell.source.zero_point) + gate.bias
            second = gate.recurrent_weights.astype(np.int64) @ (hidden - cell.hidden.zero_point)
            sums[name] = clip16(clip16(rescaled(first, gate.input)) + clip16(rescaled(second, gate.recurrent)))
        kept = clip16(rescaled(logistic(sums["forget"]) * state, cell.products.forget))
        fresh = clip16(rescaled(logistic(sums["input"]) * tanh(sums["cell"]), cell.products.input))
        state = clip16(kept + fresh)
        if cell.products.cell_clip:
            state = np.clip(state, -cell.products.cell_clip, cell.products.cell_clip)
        out = rescaled(tanh(state, cell.products.cell_power) * logistic(sums["output"]), cell.products.hidden)
        hidden = np.clip(out + cell.hidden.zero_point, -128, 127)
        shown.append(hidden)
    return np.array(shown, np.int8)


def run_lstm(library: ctypes.CDLL, cell: Cell, feed: Array, time_major: bool = False) -> Array:
    """The kernel; feed [batches, steps, in_c] or, time_major, [steps, batches, in_c]."""
    cells, in_c = len(cell.gates["cell"].bias), feed.shape[-1]
    batches, steps = feed.shape[:2][:: -1 if time_major else 1]
    kept = []
    gates = []
    for name in GATES:
        one = cell.gates[name]
        arrays = [layouts.pack_rows(one.input_weights), layouts.pack_rows(one.recurrent_weights), one.bias]
        kept += arrays
        numbers = (one.input.mantissa, one.recurrent.mantissa, one.input.right_shift, one.recurrent.right_shift)
        gates.append(kernels.LstmGate(*(array.ctypes.data for array in arrays), *numbers))
    products = (cell.products.forget, cell.products.input, cell.products.hidden)
    params = kernels.LstmParams(
        batches, steps, in_c, cells, time_major, cell.products.cell_power, -cell.source.zero_point,
        -cell.hidden.zero_point, cell.products.cell_clip, *gates, *(one.mantissa for one in products),
        *(one.right_shift for one in products),
    )  # fmt: skip
    size = library.eq_lstm_s8_get_buffer_size(ctypes.byref(params))
    assert size == layouts.lstm_scratch_bytes(in_c, cells)
    hidden, state = np.full((batches, cells), cell.hidden.zero_point, np.int8), np.zeros((batches, cells), np.int16)
    output, scratch = np.full((*feed.shape[:2], cells), 99, np.int8), kernels.exact_buffer(size)
    arrays = [feed, hidden, state, output, scratch]
    library.eq_lstm_s8(ctypes.byref(params), *(kernels.pointer(array) for array in arrays))
    return output


@given(
    sizes=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9)), source=grids,
    hidden=st.builds(Grid, st.floats(0.003, 0.02), st.integers(-20, 20)), power=st.integers(-14, -10),
    clip=st.sampled_from([0.0, 0.5, 10.0]), time_major=st.booleans(), seed=seeds,
)  # fmt: skip
@cases(120)
def test_lstm(
    libraries: Libraries, sizes: Any, source: Grid, hidden: Grid, power: int, clip: float, time_major: bool, seed: int
) -> None:
    batches, steps, in_c, cells = sizes
    rng = np.random.default_rng(seed)
    gates = {}
    for number, name in enumerate(GATES):
        scale = float(np.float32(rng.uniform(0.3, 3) / (source.scale * 127 * 128)))
        gates[name] = Gate(
            random_s8(seed + number, (cells, in_c)), random_s8(seed + 7 + number, (cells, cells)),
            rng.integers(-9000, 9000, cells).astype(np.int32),
            multipliers.dense(source.scale, [scale], 2.0**-12)[0],
            multipliers.dense(hidden.scale, [rng.uniform(0.001, 0.03)], 2.0**-12)[0],
        )  # fmt: skip
    cell = Cell(gates, source, hidden, multipliers.lstm(2.0**power, hidden.scale, clip))
    feed = random_s8(seed, (batches, steps, in_c))
    want = np.stack([lstm(cell, one) for one in feed])
    given_feed = np.ascontiguousarray(feed.transpose(1, 0, 2)) if time_major else feed
    for variant in ("portable", "dsp"):
        got = run_lstm(libraries[variant], cell, given_feed, time_major)
        check("LSTM", want, np.ascontiguousarray(got.transpose(1, 0, 2)) if time_major else got, variant)


def test_lstm_of_a_real_model_is_near_litert(library: ctypes.CDLL, shared: Path) -> None:
    """LiteRT's LSTM has curves of its own (gemmlowp's), so that it is near, not equal."""
    path = shared / "lstm_mnist" / "mnist_lstm_reference_int8.tflite"
    if not path.is_file():
        pytest.skip("the MNIST LSTM is not in ../shared")
    from ai_edge_litert import interpreter as litert

    made = litert.Interpreter(
        model_path=str(path),
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    made.allocate_tensors()
    node = made._get_ops_details()[0]
    tensors = {detail["index"]: detail for detail in made.get_tensor_details()}
    inputs = [int(one) for one in node["inputs"]]
    grids_of = {one: Grid(*map(float, tensors[one]["quantization"])) for one in inputs if one >= 0}
    order = {"input": 0, "forget": 1, "cell": 2, "output": 3}
    source = Grid(grids_of[inputs[0]].scale, int(grids_of[inputs[0]].zero_point))
    hidden = Grid(grids_of[inputs[18]].scale, int(grids_of[inputs[18]].zero_point))
    feed = random_s8(1, tuple(tensors[inputs[0]]["shape"]))
    made.set_tensor(made.get_input_details()[0]["index"], feed.reshape(made.get_input_details()[0]["shape"]))
    made.invoke()
    gates = {
        name: Gate(
            made.get_tensor(inputs[1 + at]), made.get_tensor(inputs[5 + at]), made.get_tensor(inputs[12 + at]),
            multipliers.dense(source.scale, [grids_of[inputs[1 + at]].scale], 2.0**-12)[0],
            multipliers.dense(hidden.scale, [grids_of[inputs[5 + at]].scale], 2.0**-12)[0],
        )
        for name, at in order.items()
    }  # fmt: skip
    cell = Cell(gates, source, hidden, multipliers.lstm(grids_of[inputs[19]].scale, hidden.scale, 10.0))
    got = run_lstm(library, cell, feed.reshape(1, *feed.shape[-2:]))
    want = made.get_tensor(int(node["outputs"][0])).reshape(got.shape)
    assert abs(got.astype(int) - want.astype(int)).max() <= 2
    assert (got != want).mean() < 0.2
    check("LSTM", lstm(cell, feed.reshape(feed.shape[-2:]))[np.newaxis], got)


def test_lstm_refuses_a_cell_that_is_no_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        multipliers.lstm(0.001, 0.01)
