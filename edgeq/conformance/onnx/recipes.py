"""ONNX operators: operands, attributes and variants of the one-operator model of each."""

from __future__ import annotations

from typing import Any

from edgeq.conformance.onnx.operands import NONE, Recipe, bias, constant, data, fed, held, typed, weights

X = data(1, 4, 4, 4)
POSITIVE = data(1, 4, 4, 4, low=0.2, high=1.0)
ROWS = data(4, 16)
INDICES = fed([[0, 2], [1, 3]])
MASK = fed([[[[True]], [[False]], [[True]], [[False]]]], "bool")
TWO = {"kernel_shape": [2, 2]}
THREE = {"kernel_shape": [3, 3]}
AXIS1 = {"axis": 1}
TABLE = held([[row * 0.1 - column * 0.05 for column in range(16)] for row in range(8)])


def _alike(names: str, recipe: Recipe) -> dict[str, Recipe]:
    return dict.fromkeys(names.split(), recipe)


LAYERS = {
    "Conv": Recipe(
        (X, weights(8, 4, 3, 3), bias(8)),
        {**THREE, "pads": [1, 1, 1, 1]},
        variants={
            "without bias": (X, weights(8, 4, 3, 3)),
            "pointwise": ((X, weights(8, 4, 1, 1), bias(8)), {"kernel_shape": [1, 1], "pads": [0, 0, 0, 0]}),
            "strided": {"strides": [2, 2]},
            "dilated": {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
            "depthwise": ((X, weights(4, 1, 3, 3), bias(4)), {"group": 4}),
            "one axis": ((data(1, 4, 8), weights(8, 4, 3), bias(8)), {"kernel_shape": [3], "pads": [1, 1]}),
            "three axes": (
                (data(1, 2, 4, 4, 4), weights(3, 2, 3, 3, 3), bias(3)),
                {"kernel_shape": [3, 3, 3], "pads": [1] * 6},
            ),
        },
    ),
    "ConvTranspose": Recipe((X, weights(4, 8, 3, 3, axis=1), bias(8)), {**THREE, "strides": [2, 2]}),
    "MatMul": Recipe(
        (data(4, 32), weights(32, 8, axis=1)),
        variants={"two activations": (data(4, 16), data(16, 8)), "rank 3": (data(2, 4, 32), weights(32, 8, axis=1))},
    ),
    "Gemm": Recipe(
        (data(4, 32), weights(32, 8, axis=1), bias(8)),
        variants={
            "transB": ((data(4, 32), weights(8, 32), bias(8)), {"transB": 1}),
            "without bias": (data(4, 32), weights(32, 8, axis=1)),
        },
    ),
    "LSTM": Recipe(
        (data(3, 1, 8), weights(1, 16, 8, axis=1), weights(1, 16, 4, axis=1), bias(1, 32)), {"hidden_size": 4}, 3
    ),
    "GRU": Recipe(
        (data(3, 1, 8), weights(1, 12, 8, axis=1), weights(1, 12, 4, axis=1), bias(1, 24)), {"hidden_size": 4}, 2
    ),
    "RNN": Recipe(
        (data(3, 1, 8), weights(1, 4, 8, axis=1), weights(1, 4, 4, axis=1), bias(1, 8)), {"hidden_size": 4}, 2
    ),
    "DeformConv": Recipe(
        (data(1, 2, 4, 4), weights(3, 2, 2, 2), data(1, 8, 3, 3, low=-0.4, high=0.4), bias(3)), TWO, opset=19
    ),
}

POINTWISE = {
    **_alike("Relu Sigmoid Tanh Elu Selu HardSwish HardSigmoid Gelu Erf Softplus Mish Softsign Celu", Recipe((X,))),
    **_alike("ThresholdedRelu Shrink Identity Dropout IsNaN Abs Neg Exp Sin Cos Sign Acos Asin Atan", Recipe((X,))),
    **_alike("Sinh Cosh Tan Asinh Atanh Softmax LogSoftmax Hardmax Swish CastLike", Recipe((X,))),
    **_alike("Floor Ceil Round", Recipe((data(1, 4, 4, 4, low=-2.6, high=4.3),))),
    **_alike("Log Sqrt Reciprocal", Recipe((POSITIVE,))),
    "Acosh": Recipe((data(1, 4, 4, 4, low=1.2, high=3.0),)),
    "Atanh": Recipe((data(1, 4, 4, 4, low=-0.7, high=0.8),)),
    "LeakyRelu": Recipe((X,), {"alpha": 0.1}),
    "PRelu": Recipe((X, held([[[0.1]], [[0.2]], [[0.3]], [[0.4]]]))),
    "Clip": Recipe((data(1, 4, 4, 4, low=-1, high=8), typed(0), typed(6))),
    "IsInf": Recipe((X,)),
    "Softmax": Recipe((X,), variants={"axis 1": AXIS1}),
    "CumSum": Recipe((ROWS, constant(1))),
    "CumProd": Recipe((ROWS, constant(1)), opset=26),
    "BitCast": Recipe((X,), {"to": 6}, opset=26),
    "Swish": Recipe((X,), opset=24),
}
POINTWISE["IsNaN"] = POINTWISE["IsInf"]

PAIRS = {
    **_alike("Add Mul Sub Max Min Sum Mean", Recipe((X, data(1, 4, 4, 4, low=0.1, high=2)))),
    "Div": Recipe((X, data(1, 4, 4, 4, low=0.4, high=2))),
    "Pow": Recipe((POSITIVE, data(1, 4, 4, 4, low=0.5, high=2))),
    "Mod": Recipe((POSITIVE, data(1, 4, 4, 4, low=0.9, high=2)), {"fmod": 1}),
    "Einsum": Recipe((ROWS, data(16, 3)), {"equation": "ij,jk->ik"}),
    "Where": Recipe((MASK, X, data(1, 4, 4, 4, low=-0.2, high=2))),
    "Concat": Recipe((X, data(1, 4, 4, 4, low=-0.2, high=2)), AXIS1),
    **_alike("Equal Greater GreaterOrEqual Less LessOrEqual", Recipe((X, data(1, 4, 4, 4, low=-0.5)))),
    **_alike("And Or Xor", Recipe((MASK, fed([[[[True]], [[True]], [[False]], [[False]]]], "bool")), plain=True)),
    "Not": Recipe((MASK,), plain=True),
    **_alike("BitwiseAnd BitwiseOr BitwiseXor", Recipe((fed([1, 6, 3], "int32"), fed([3, 5, 1], "int32")), plain=True)),
    "BitwiseNot": Recipe((fed([1, 6, 3], "int32"),), plain=True),
    "BitShift": Recipe((fed([1, 6], "uint8"), fed([3, 1], "uint8")), {"direction": "LEFT"}, plain=True),
}
PAIRS["Add"] = Recipe(
    PAIRS["Add"].operands,
    variants={"broadcast": (X, data(4, 1, 1)), "a constant": (X, held([[[0.5]]] * 4))},
)
PAIRS["Mul"] = Recipe(PAIRS["Add"].operands, variants=PAIRS["Add"].variants)

POOLS = {
    "GlobalAveragePool": Recipe((X,)),
    "GlobalMaxPool": Recipe((X,), same_scale=True),
    "GlobalLpPool": Recipe((POSITIVE,)),
    "AveragePool": Recipe(
        (X,),
        TWO,
        variants={"padded": {"pads": [1, 1, 1, 1]}, "padding counts": {"pads": [1, 1, 1, 1], "count_include_pad": 1}},
    ),
    "MaxPool": Recipe(
        (X,), TWO, same_scale=True, variants={"strided": {"strides": [2, 2]}, "dilated": {"dilations": [2, 2]}}
    ),
    "LpPool": Recipe((POSITIVE,), TWO),
    "MaxRoiPool": Recipe((X, fed([[0, 0, 0, 3, 3]], "float32")), {"pooled_shape": [2, 2]}),
    "RoiAlign": Recipe((X, fed([[0, 0, 3, 3]], "float32"), fed([0])), {"output_height": 2, "output_width": 2}),
    "MaxUnpool": Recipe((data(1, 1, 2, 2), fed([[[[5, 7], [13, 15]]]])), {**TWO, "strides": [2, 2]}),
    "LRN": Recipe((X,), {"size": 3}),
    "Resize": Recipe(
        (X, NONE, constant([1, 1, 2, 2], "float32")),
        {"mode": "nearest"},
        same_scale=True,
        variants={"linear": {"mode": "linear"}, "cubic": {"mode": "cubic"}},
    ),
    "Upsample": Recipe((X, constant([1, 1, 2, 2], "float32")), {"mode": "nearest"}, same_scale=True, until=9),
    "GridSample": Recipe((X, data(1, 3, 3, 2))),
    "AffineGrid": Recipe((data(1, 2, 3), constant([1, 1, 3, 3]))),
    "Col2Im": Recipe((data(1, 4, 9), constant([4, 4]), constant([2, 2]))),
    "CenterCropPad": Recipe((X, constant([1, 4, 2, 2]))),
    "DepthToSpace": Recipe((X,), {"blocksize": 2}, same_scale=True),
    "SpaceToDepth": Recipe((X,), {"blocksize": 2}, same_scale=True),
}

REDUCTIONS = {
    **_alike("ReduceMean ReduceSum ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp", Recipe((X, constant([1])))),
    **_alike("ReduceLogSum ReduceProd", Recipe((POSITIVE, constant([1])))),
    **_alike("ReduceMax ReduceMin", Recipe((X, constant([1])), same_scale=True)),
    **_alike("ArgMax ArgMin", Recipe((X,), {"axis": 1})),
}

NORMS = {
    "LayerNormalization": Recipe((X, held([0.5, 1, 1, 2]), held([0, 0.1, 0, 0]))),
    "RMSNormalization": Recipe((X, held([0.5, 1, 1, 2])), opset=23),
    "InstanceNormalization": Recipe((X, held([0.5, 1, 1, 2]), held([0, 0.1, 0, 0]))),
    "GroupNormalization": Recipe((X, held([0.5, 1, 1, 2]), held([0, 0.1, 0, 0])), {"num_groups": 2}),
    "BatchNormalization": Recipe(
        (X, *(held(row) for row in ([1, 2, 1, 1], [0, 0, 1, 0], [0, 0.1, 0, 0], [1, 1, 0.5, 1])))
    ),
    "LpNormalization": Recipe((X,)),
    "MeanVarianceNormalization": Recipe((X,)),
}

MOVERS = {
    "Transpose": Recipe((X,), {"perm": [0, 2, 3, 1]}, same_scale=True),
    "Reshape": Recipe((X, constant([1, 8, 8])), same_scale=True),
    "Flatten": Recipe((X,), same_scale=True),
    "Squeeze": Recipe((X, constant([0])), same_scale=True),
    "Unsqueeze": Recipe((X, constant([1])), same_scale=True),
    "Gather": Recipe(
        (ROWS, INDICES),
        same_scale=True,
        variants={"a table": (TABLE, fed([0, 5]))},
    ),
    "GatherElements": Recipe((data(2, 4), INDICES), {"axis": 1}, same_scale=True),
    "GatherND": Recipe((ROWS, INDICES), same_scale=True),
    "ScatterND": Recipe((ROWS, fed([[1], [3]]), data(2, 16)), same_scale=True),
    "ScatterElements": Recipe((data(4, 4), INDICES, data(2, 2)), AXIS1, same_scale=True),
    "Scatter": Recipe((data(4, 4), INDICES, data(2, 2)), AXIS1, same_scale=True, until=10),
    "TensorScatter": Recipe((data(1, 2, 6, 4), data(1, 2, 2, 4), fed([1])), same_scale=True, opset=24),
    "Slice": Recipe((X, constant([1]), constant([3]), constant([1])), same_scale=True),
    "Split": Recipe((X, constant([1, 3])), AXIS1, 2, same_scale=True),
    "Expand": Recipe((data(1, 4, 1, 4), constant([1, 4, 4, 4])), same_scale=True),
    "Tile": Recipe((X, constant([1, 2, 1, 1])), same_scale=True),
    "Identity": Recipe((X,), same_scale=True),
    "Dropout": Recipe((X,), same_scale=True),
    "Pad": Recipe(
        (X, constant([0, 0, 1, 1, 0, 0, 1, 1])), same_scale=True, variants={"reflected": {"mode": "reflect"}}
    ),
    "Trilu": Recipe((X,), same_scale=True),
    "TopK": Recipe((X, constant([2])), outputs=2, same_scale=True),
    "ReverseSequence": Recipe((data(4, 3), fed([1, 2, 3])), same_scale=True),
    "Compress": Recipe((ROWS, fed([True, False, True], "bool")), {"axis": 0}, same_scale=True),
    "Unique": Recipe((data(9),), same_scale=True),
    "NonZero": Recipe((X,)),
    "OneHot": Recipe((fed([0, 2]), constant([3]), typed([0, 1]))),
}

OTHERS: dict[str, Recipe] = {
    "Cast": Recipe((X,), {"to": 7}, plain=True),
    "CastLike": Recipe((X, constant([1], "int64")), plain=True),
    "Shape": Recipe((X,), plain=True),
    "Size": Recipe((X,), plain=True),
    "Range": Recipe((typed(0), typed(5), typed(1)), plain=True),
    "Constant": Recipe((), {"value": "a tensor"}, plain=True),
    "ConstantOfShape": Recipe((fed([2, 3]),), {"value": "one number"}, plain=True),
    "EyeLike": Recipe((data(3, 3),), plain=True),
    "QuantizeLinear": Recipe(
        (fed([[-0.2, 0.5], [0.0, 1.3]], "float32"), constant(0.02, "float32"), typed(3)), plain=True
    ),
    "DequantizeLinear": Recipe((fed([[1, 2], [3, 4]], "signature"), constant(0.02, "float32")), plain=True),
    "DynamicQuantizeLinear": Recipe((X,), outputs=3, plain=True),
    "Det": Recipe((data(4, 4),)),
    "BlackmanWindow": Recipe((constant(8),), plain=True),
    "NonMaxSuppression": Recipe((data(1, 6, 4, low=0.0), data(1, 2, 6, low=0.0), constant([3]))),
    "DFT": Recipe((data(1, 8, 1),), opset=20),
    "STFT": Recipe((data(1, 32, 1), constant(8), NONE, constant(8))),
    "MelWeightMatrix": Recipe(
        (constant(8), constant(16), constant(8000), constant(20.0, "float32"), constant(3000.0, "float32")), plain=True
    ),
    "Multinomial": Recipe((ROWS,), random=True),
    "Bernoulli": Recipe((POSITIVE,), random=True, plain=True),
    **_alike("RandomNormalLike RandomUniformLike", Recipe((X,), random=True, plain=True)),
    **_alike("RandomNormal RandomUniform", Recipe((), {"shape": [2, 3]}, random=True, plain=True)),
    "Attention": Recipe((data(1, 2, 4, 8), data(1, 2, 4, 8), data(1, 2, 4, 8)), opset=23),
    "RotaryEmbedding": Recipe((data(1, 2, 4, 8), data(1, 4, 4), data(1, 4, 4)), opset=23),
    "ConvInteger": Recipe((fed([[[[1, 2], [3, 4]]]], "uint8"), constant([[[[1]]]], "uint8")), plain=True),
    "MatMulInteger": Recipe((fed([[1, 2]], "uint8"), constant([[1], [3]], "uint8")), plain=True),
    "NegativeLogLikelihoodLoss": Recipe((data(4, 3), fed([0, 2, 1, 0]))),
    "SoftmaxCrossEntropyLoss": Recipe((data(4, 3), fed([0, 2, 1, 0]))),
}
OTHERS |= _alike("HammingWindow HannWindow", OTHERS["BlackmanWindow"])


def _scaled(*parts: tuple[Any, str]) -> tuple[Any, ...]:
    """Operands of an operator on integers: values with their type, float32 for scales."""
    return tuple(constant(values, dtype) for values, dtype in parts)


_STEP = (0.02, "float32")
OTHERS["QLinearConv"] = Recipe(
    (fed([[[[1, 2], [3, 4]]]], "signature"), *_scaled(_STEP), typed(3), typed([[[[9]]]]), *_scaled(_STEP), typed(0),
     *_scaled(_STEP), typed(3)),
    plain=True,
)  # fmt: skip
OTHERS["QLinearMatMul"] = Recipe(
    (fed([[1, 2]], "signature"), *_scaled(_STEP), typed(3), typed([[9], [7]]), *_scaled(_STEP), typed(0),
     *_scaled(_STEP), typed(3)),
    plain=True,
)  # fmt: skip

RECIPES: dict[str, Recipe] = {**LAYERS, **POINTWISE, **PAIRS, **POOLS, **REDUCTIONS, **NORMS, **MOVERS, **OTHERS}
_SEQUENCES = "it reads or makes a sequence or an optional, which no model of one operator has"
_STRINGS = "it reads strings, which edgeq's ports do not carry"
_BODIES = "it runs graphs of its own, which a model of one operator does not have"
UNTRIED: dict[str, str] = {
    **dict.fromkeys(["If", "Loop", "Scan", "SequenceMap"], _BODIES),
    **dict.fromkeys(
        ["SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert"], _SEQUENCES
    ),
    **dict.fromkeys(["SequenceLength", "SplitToSequence", "ConcatFromSequence", "Optional"], _SEQUENCES),
    **dict.fromkeys(["OptionalGetElement", "OptionalHasElement"], _SEQUENCES),
    **dict.fromkeys(["RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"], _STRINGS),
}
"""Operators without a recipe, and why."""
