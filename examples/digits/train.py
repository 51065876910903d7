"""Train the digits network and write every file of this folder.

`python train.py` writes digits.npz, digits_float.tflite and digits_float.onnx beside itself (or into `--out DIR`).
`python train.py --check` trains again in a temporary folder and compares; exit code 1 if the files here differ.

Needs scikit-learn (the data), TensorFlow (training, TFLite) and onnx; edgeq itself is not needed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_ENABLE_ONEDNN_OPTS="0", CUDA_VISIBLE_DEVICES="-1")

import numpy as np

HERE = Path(__file__).resolve().parent
SEED = 20261121
TRAINING, HELD_OUT = slice(0, 1297), slice(1297, 1797)  # the last samples come from other writers than the first
EPOCHS, BATCH = 60, 64
SCORE_TOLERANCE, AGREEMENT = 0.01, 0.98  # another CPU or TensorFlow rounds otherwise, and training carries it on
PROBABILITY_TOLERANCE = 1e-4  # between the two formats, which hold the same weights


def main() -> int:
    """Train, or train again and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE, help="where to write (default: this folder)")
    parser.add_argument("--check", action="store_true", help="train again elsewhere and compare")
    options = parser.parse_args()
    if not options.check:
        train(options.out)
        return 0
    with tempfile.TemporaryDirectory(prefix="digits-") as scratch:
        train(Path(scratch))
        problems = compare(HERE, Path(scratch))
    print("\n".join(problems) or "the same within tolerance")
    return 1 if problems else 0


def train(out: Path) -> None:
    """Write the samples and the network in both formats; refuses to leave formats that disagree."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    x, y = digits()
    model = network(tf)
    fit(tf, model, *shifted(x[TRAINING], y[TRAINING]))
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "digits.npz", x=x, y=y)
    write_tflite(tf, model, out / "digits_float.tflite")
    write_onnx(model, out / "digits_float.onnx")
    apart = float(np.abs(run_tflite(out, x) - run_onnx(out, x)).max())
    if apart > PROBABILITY_TOLERANCE:
        raise SystemExit(f"the formats disagree by {apart}")
    print(f"{model.count_params()} parameters, held-out top1 {score(out):.4f}, formats apart by {apart:.1e}")


def digits() -> tuple[np.ndarray, np.ndarray]:
    """All samples in their published order: pictures (1797, 8, 8, 1) of 0..16 and their digits."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images[..., None].astype(np.uint8), found.target.astype(np.int64)


def shifted(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every picture as it is and moved by one pixel to each side, scaled to 0..1."""
    moves = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    pictures = [padded[:, 1 + down : 9 + down, 1 + right : 9 + right] for down, right in moves]
    return np.concatenate(pictures).astype(np.float32) / 16, np.tile(y, len(moves))


def network(tf):
    """Convolution, then two depthwise-separable blocks with batch normalization, then one dense layer."""
    layers = tf.keras.layers
    steps = [layers.Input((8, 8, 1), batch_size=1, name="image")]
    steps += normalized(layers, layers.Conv2D(16, 3, padding="same", use_bias=False))
    for channels, stride in ((32, 2), (48, 1)):
        steps += normalized(layers, layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False))
        steps += normalized(layers, layers.Conv2D(channels, 1, use_bias=False))
    steps += [layers.Flatten(), layers.Dropout(0.3), layers.Dense(10), layers.Softmax()]
    return tf.keras.Sequential(steps)


def normalized(layers, layer) -> list:
    return [layer, layers.BatchNormalization(), layers.ReLU()]


def fit(tf, model, x: np.ndarray, y: np.ndarray) -> None:
    """Adam with a cosine schedule; batches are drawn here, so that their order depends on the seed alone."""
    rate = tf.keras.optimizers.schedules.CosineDecay(0.004, EPOCHS * (len(x) // BATCH))
    optimizer = tf.keras.optimizers.Adam(rate)
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy()
    random = np.random.default_rng(SEED)

    @tf.function
    def step(pictures, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(pictures, training=True))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    for _ in range(EPOCHS):
        for batch in random.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
            step(tf.constant(x[batch]), tf.constant(y[batch]))


def write_tflite(tf, model, path: Path) -> None:
    path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def write_onnx(model, path: Path) -> None:
    """The same weights as ONNX. Pictures come in as TFLite takes them (NHWC), so that one dataset serves both."""
    from onnx import TensorProto, checker, helper, save

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 8, 8, 1))
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, (1, 10))
    nodes, weights = onnx_nodes(model)
    graph = helper.make_graph(nodes, "digits", [image], [answer], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="edgeq")
    checker.check_model(made, full_check=True)
    save(made, path)


def onnx_nodes(model) -> tuple[list, list]:
    """One ONNX node for each layer that does something at inference, and the weights they read."""
    from onnx import helper, numpy_helper

    nodes, weights, current = [helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2])], [], "nchw"
    for layer in (one for one in model.layers if type(one).__name__ in ONNX):
        operator, attributes, arrays = ONNX[type(layer).__name__](layer)
        names = [f"{layer.name}_{place}" for place in range(len(arrays))]
        weights += [numpy_helper.from_array(np.ascontiguousarray(a), n) for a, n in zip(arrays, names, strict=True)]
        output = "probabilities" if layer is model.layers[-1] else f"{layer.name}_output"
        nodes.append(helper.make_node(operator, [current, *names], [output], name=layer.name, **attributes))
        current = output
    return nodes, weights


def onnx_convolution(layer) -> tuple[str, dict, list]:
    """Kernels (height, width, in, out) become (out, in, height, width)."""
    (kernel,) = layer.get_weights()
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    attributes = {"kernel_shape": kernel.shape[:2], "strides": layer.strides, "pads": pads(layer)}
    attributes["group"] = kernel.shape[2] if depthwise else 1
    return "Conv", attributes, [kernel.transpose(2, 3, 0, 1) if depthwise else kernel.transpose(3, 2, 0, 1)]


def pads(layer) -> list[int]:
    """TensorFlow's `same` on an even size: with stride 2 the odd pixel goes below and to the right."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    return [0, 0, 1, 1] if layer.strides[0] == 2 else [1, 1, 1, 1]


def onnx_normalization(layer) -> tuple[str, dict, list]:
    return "BatchNormalization", {"epsilon": layer.epsilon}, layer.get_weights()


def onnx_flatten(_layer) -> tuple[str, dict, list]:
    return "Flatten", {"axis": 1}, []


def onnx_dense(layer) -> tuple[str, dict, list]:
    """Keras flattens (height, width, channel), ONNX (channel, height, width): the rows change places."""
    kernel, bias = layer.get_weights()
    rows = kernel.reshape(4, 4, -1, kernel.shape[1]).transpose(2, 0, 1, 3).reshape(kernel.shape)
    return "Gemm", {"transB": 1}, [rows.T, bias]


ONNX = {
    "Conv2D": onnx_convolution,
    "DepthwiseConv2D": onnx_convolution,
    "BatchNormalization": onnx_normalization,
    "ReLU": lambda _layer: ("Relu", {}, []),
    "Flatten": onnx_flatten,
    "Dense": onnx_dense,
    "Softmax": lambda _layer: ("Softmax", {"axis": -1}, []),
}


def run_tflite(folder: Path, x: np.ndarray) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    model = Interpreter(model_path=str(folder / "digits_float.tflite"), num_threads=1)
    model.allocate_tensors()
    (source,), (answer,) = model.get_input_details(), model.get_output_details()
    found = []
    for picture in x.astype(np.float32) / 16:
        model.set_tensor(source["index"], picture[None])
        model.invoke()
        found.append(model.get_tensor(answer["index"])[0])
    return np.stack(found)


def run_onnx(folder: Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "digits_float.onnx", providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": picture[None]})[0] for picture in x.astype(np.float32) / 16])


def score(folder: Path) -> float:
    """Share of held-out pictures that the TFLite file names right."""
    x, y = digits()
    return float(np.mean(run_tflite(folder, x[HELD_OUT]).argmax(1) == y[HELD_OUT]))


def compare(kept: Path, fresh: Path) -> list[str]:
    """What is not the same: samples, score, answers of either format."""
    with np.load(kept / "digits.npz") as old, np.load(fresh / "digits.npz") as new:
        problems = [f"digits.npz: {name} differs" for name in ("x", "y") if not np.array_equal(old[name], new[name])]
    x, _ = digits()
    scores = score(kept), score(fresh)
    if abs(scores[0] - scores[1]) > SCORE_TOLERANCE:
        problems.append(f"top1 {scores[0]:.4f} here, {scores[1]:.4f} trained again")
    for run in (run_tflite, run_onnx):
        old, new = (run(folder, x[HELD_OUT]) for folder in (kept, fresh))
        same = float(np.mean(old.argmax(1) == new.argmax(1)))
        print(f"{run.__name__}: {same:.1%} of the answers agree, probabilities differ by {np.abs(old - new).max():.1e}")
        problems += [f"{run.__name__}: only {same:.1%} of the answers agree"] if same < AGREEMENT else []
    return problems


if __name__ == "__main__":
    sys.exit(main())
