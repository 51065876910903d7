"""Faults for one operator of a model file: what `attribution.py` plants and `edgeq analyze` should find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.analysis.net import DEQUANTIZE, QUANTIZE, Net
from edgeq.analysis.rows import Row
from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters.tflite.restore import type_name
from edgeq.types import Operator

Values = NDArray[Any]
Random = np.random.Generator
_STORED = {"INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64}
_STORED |= {"FLOAT32": np.float32}  # type: ignore[dict-item]


class CannotPlantError(Exception):
    """This operator has no place for such a fault."""


class TFLite:
    """A TFLite model that is changed in place."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.main = net.raw.subgraphs[0]

    def operand(self, operator: Operator, place: int) -> int:
        """The stored tensor of a constant operand."""
        tensor = operator.inputs[place] if place < len(operator.inputs) else -1
        if tensor < 0 or not flatbuffer.is_constant(self.net.raw, self.main.tensors[tensor]):
            raise CannotPlantError
        return tensor

    def places(self, operator: Operator) -> tuple[int, int]:
        """Operands that are weights and bias."""
        if operator.type == "TRANSPOSE_CONV":
            return 1, 3
        if operator.type not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            raise CannotPlantError
        return 1, 2

    def axis(self, operator: Operator) -> int:
        """The axis of a weight's results."""
        return 3 if operator.type == "DEPTHWISE_CONV_2D" else 0

    def values(self, tensor: int) -> Values:
        item = self.main.tensors[tensor]
        data = np.frombuffer(self.net.raw.buffers[item.buffer].data, _STORED[type_name(item)])
        return data.reshape(self.net.graph.tensors[tensor].shape).copy()

    def set_values(self, tensor: int, values: Values) -> None:
        self.main.tensors[tensor].buffer = flatbuffer.add_buffer(self.net.raw, values)

    def scales(self, tensor: int) -> Values:
        found = self.main.tensors[tensor].quantization
        if found is None or found.scale is None:
            raise CannotPlantError
        return np.array(found.scale, np.float32)

    def set_scales(self, tensor: int, scales: Values) -> None:
        self.main.tensors[tensor].quantization.scale = np.asarray(scales, np.float32)

    def rescale_result(self, operator: Operator, factor: float, shift: int) -> None:
        """Another range for a result, for what must share it, and for the biases behind it."""
        group = self._group(operator.outputs[0])
        for tensor in group:
            found = self.main.tensors[tensor].quantization
            self.set_scales(tensor, self.scales(tensor) * factor)
            ends = np.iinfo(_STORED[type_name(self.main.tensors[tensor])])
            found.zeroPoint = np.clip(np.asarray(found.zeroPoint) + shift, ends.min, ends.max).astype(np.int64)
        for tensor in group:
            for reader in self.net.readers.get(tensor, ()):
                self._rescale_bias(reader, factor)

    def _rescale_bias(self, reader: Operator, factor: float) -> None:
        try:
            bias = self.operand(reader, self.places(reader)[1])
        except CannotPlantError:
            return
        steps = np.rint(self.values(bias) / factor)
        if np.abs(steps).max(initial=0) >= 2**30:
            raise CannotPlantError
        self.set_values(bias, steps.astype(self.values(bias).dtype))
        self.set_scales(bias, self.scales(bias) * factor)

    def _group(self, tensor: int) -> list[int]:
        """Tensors that hold the same codes; refuses those that several operators give values."""
        port, found = self.net.port(tensor), [tensor]
        if port.scale is None:
            raise CannotPlantError
        for one in found:
            for reader in self.net.readers.get(one, ()):
                made = reader.outputs[0]
                theirs = self.net.port(made)
                if (theirs.scale, theirs.zero_point) == (port.scale, port.zero_point) and made not in found:
                    if len(self.net.read(reader)) > 1:
                        raise CannotPlantError
                    found.append(made)
        return found

    def save(self, path: Path) -> None:
        names = [tensor.name for tensor in self.net.graph.tensors[: len(self.main.tensors)]]
        flatbuffer.restore_names(self.net.raw, [[name.encode() for name in names]])
        path.write_bytes(flatbuffer.dump(self.net.raw))


class Onnx:
    """An ONNX model that is changed in place; quantized operators are those between QDQ pairs."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.constants = {item.name: item for item in net.raw.graph.initializer}

    def operand(self, operator: Operator, place: int) -> int:
        tensor = operator.inputs[place] if place < len(operator.inputs) else -1
        maker = self.net.makers.get(tensor)
        tensor = maker.inputs[0] if maker is not None and maker.type in DEQUANTIZE else tensor
        if tensor < 0 or self._name(tensor) not in self.constants:
            raise CannotPlantError
        return tensor

    def places(self, operator: Operator) -> tuple[int, int]:
        if operator.type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            raise CannotPlantError
        return 1, 2

    def axis(self, operator: Operator) -> int:
        turned = operator.type == "MatMul" or (operator.type == "Gemm" and not operator.attributes.get("transB"))
        return 1 if turned or operator.type == "ConvTranspose" else 0

    def values(self, tensor: int) -> Values:
        from onnx import numpy_helper

        return np.array(numpy_helper.to_array(self.constants[self._name(tensor)]))

    def set_values(self, tensor: int, values: Values) -> None:
        self._set(self._name(tensor), values)

    def _set(self, name: str, values: Values) -> None:
        from onnx import numpy_helper

        self.constants[name].CopyFrom(numpy_helper.from_array(values, name))

    def _name(self, tensor: int) -> str:
        return self.net.graph.tensors[tensor].name

    def _parameters(self, tensor: int) -> tuple[int, int]:
        """Scale and zero point of a quantized tensor, as tensors."""
        for operator in self.net.readers.get(tensor, ()):
            if operator.type in DEQUANTIZE:
                return operator.inputs[1], operator.inputs[2] if len(operator.inputs) > 2 else -1
        raise CannotPlantError

    def scales(self, tensor: int) -> Values:
        return self.values(self._parameters(tensor)[0])

    def set_scales(self, tensor: int, scales: Values) -> None:
        self.set_values(self._parameters(tensor)[0], np.asarray(scales, np.float32).reshape(self.scales(tensor).shape))

    def rescale_result(self, operator: Operator, factor: float, shift: int) -> None:
        made = operator.outputs[0]
        quantized = [one for one in self.net.readers.get(made, ()) if one.type in QUANTIZE]
        if len(quantized) != 1:
            raise CannotPlantError
        first = quantized[0]
        pairs = [first, *self.net.readers.get(first.outputs[0], ())]
        scale, zero = self.values(first.inputs[1]), self.values(first.inputs[2])
        ends = np.iinfo(zero.dtype)
        values = {1: (scale * factor).astype(np.float32), 2: np.clip(zero.astype(np.int64) + shift, ends.min, ends.max)}
        for place, value in values.items():
            self._give(pairs, place, value.astype(zero.dtype) if place == 2 else value)
        for pair in pairs[1:]:
            for reader in self.net.readers.get(pair.outputs[0], ()):
                self._rescale_bias(reader, factor)

    def _give(self, operators: list[Operator], place: int, value: Values) -> None:
        """A constant of their own for these operators."""
        from onnx import numpy_helper

        name = f"planted{place}"
        self.net.raw.graph.initializer.append(numpy_helper.from_array(value, name))
        for operator in operators:
            self.net.raw.graph.node[self.net.operators.index(operator)].input[place] = name

    def _rescale_bias(self, reader: Operator, factor: float) -> None:
        try:
            bias = self.operand(reader, self.places(reader)[1])
            scales = self.scales(bias)
        except CannotPlantError:
            return
        steps = np.rint(self.values(bias) / factor)
        if np.abs(steps).max(initial=0) >= 2**30:
            raise CannotPlantError
        self.set_values(bias, steps.astype(np.int32))
        self.set_scales(bias, scales * factor)

    def save(self, path: Path) -> None:
        path.write_bytes(self.net.raw.SerializeToString())


Model = TFLite | Onnx
Fault = Callable[[Model, Operator, Random], str]


def weight_scale(model: Model, operator: Operator, random: Random) -> str:
    """All scales of the weights are wrong by a factor."""
    weights, factor = model.operand(operator, model.places(operator)[0]), float(random.choice([0.25, 0.5, 2, 4]))
    model.set_scales(weights, model.scales(weights) * factor)
    return f"weight scale x {factor}"


def channel_scale(model: Model, operator: Operator, random: Random) -> str:
    """The scale of one channel is wrong by a factor."""
    weights, factor = model.operand(operator, model.places(operator)[0]), float(random.choice([4, 8, 16]))
    scales = np.atleast_1d(model.scales(weights)).copy()
    if scales.size < 2:
        raise CannotPlantError
    channel = int(random.integers(scales.size))
    scales[channel] *= factor
    model.set_scales(weights, scales)
    return f"scale of channel {channel} x {factor:.0f}"


def weight_codes(model: Model, operator: Operator, random: Random) -> str:
    """A share of the weights is replaced by others of the same tensor."""
    weights, share = model.operand(operator, model.places(operator)[0]), float(random.uniform(0.05, 0.3))
    values = model.values(weights)
    flat = values.reshape(-1)
    chosen = random.choice(flat.size, max(1, int(share * flat.size)), replace=False)
    flat[chosen] = random.permutation(flat)[: chosen.size]
    model.set_values(weights, values)
    return f"{share:.0%} of the weights replaced"


def bias(model: Model, operator: Operator, random: Random) -> str:
    """The bias has the wrong sign, is missing, or belongs to other channels."""
    tensor = model.operand(operator, model.places(operator)[1])
    values = model.values(tensor)
    kind = str(random.choice(["negated", "missing", "of other channels"]))
    changed = {"negated": -values, "missing": np.zeros_like(values), "of other channels": np.roll(values, 1)}[kind]
    model.set_values(tensor, changed.astype(values.dtype))
    return f"bias {kind}"


def narrow(model: Model, operator: Operator, random: Random) -> str:
    """The result's range is far too narrow."""
    factor = float(random.choice([1 / 4, 1 / 8, 1 / 16]))
    model.rescale_result(operator, factor, 0)
    return f"range x {factor:.3g}"


def wide(model: Model, operator: Operator, random: Random) -> str:
    """The result's range is far too wide."""
    factor = float(random.choice([8, 16, 32]))
    model.rescale_result(operator, factor, 0)
    return f"range x {factor:.0f}"


def zero_point(model: Model, operator: Operator, random: Random) -> str:
    """The result's zero point is shifted."""
    shift = int(random.choice([-1, 1]) * random.integers(30, 100))
    model.rescale_result(operator, 1.0, shift)
    return f"zero point {shift:+d}"


def channel_weights(model: Model, operator: Operator, random: Random) -> str:
    """The weights of some channels are scaled, as by a wrongly folded batch normalization."""
    weights, factor = model.operand(operator, model.places(operator)[0]), float(random.choice([-1, 0.3, 3]))
    values = np.moveaxis(model.values(weights), model.axis(operator), 0)
    chosen = random.choice(len(values), max(1, len(values) // 4), replace=False)
    values[chosen] *= np.float32(factor)
    model.set_values(weights, np.ascontiguousarray(np.moveaxis(values, 0, model.axis(operator))))
    return f"weights of {len(chosen)} channels x {factor}"


def noisy_weights(model: Model, operator: Operator, random: Random) -> str:
    """Noise on all weights."""
    weights, share = model.operand(operator, model.places(operator)[0]), float(random.uniform(0.1, 0.5))
    values = model.values(weights)
    noise = random.normal(0, share * float(values.std()), values.shape)
    model.set_values(weights, (values + noise).astype(np.float32))
    return f"weights with noise of {share:.0%}"


FAULTS: Mapping[str, tuple[Fault, ...]] = {
    "prepared": (channel_weights, noisy_weights, weight_codes, bias),
    "quantized": (weight_scale, channel_scale, weight_codes, bias, narrow, wide, zero_point),
    "runtime": (weight_scale, channel_scale, weight_codes, bias),
}


def editable(net: Net) -> Model:
    """The model of either format as something to change."""
    return Onnx(net) if net.graph.format == "onnx" else TFLite(net)


def plantable(rows: list[Any]) -> list[Row]:
    """Operators of a quantized model that are measured."""
    return [row for row in rows if isinstance(row, Row) and row.before is not None]
