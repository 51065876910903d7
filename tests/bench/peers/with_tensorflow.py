"""TensorFlow's post-training quantization: from the Keras file where there is one, else from the float .tflite.

int8 ports, and what has no int8 kernel may stay in float.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import feeds
import tensorflow as tf
from tensorflow.lite.python.optimize.calibrator import Calibrator


def quantize(model: Path, samples: Path, out: Path) -> list[str]:
    """The road that the file allows."""
    if model.suffix == ".h5":
        out.write_bytes(_from_keras(model, samples))
        return ["from the Keras file"]
    shapes = [detail["shape"] for detail in tf.lite.Interpreter(str(model)).get_input_details()]

    def stream() -> object:
        for sample in feeds.batches(samples):
            yield [feeds.fitted(one, shape) for one, shape in zip(sample, shapes, strict=True)]

    made = Calibrator(model.read_bytes()).calibrate_and_quantize(stream, tf.int8, tf.int8, True)
    out.write_bytes(made)
    return ["from the float .tflite"]


def _from_keras(model: Path, samples: Path) -> bytes:
    import tf_keras

    converter = tf.lite.TFLiteConverter.from_keras_model(tf_keras.models.load_model(model, compile=False))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (list(sample) for sample in feeds.batches(samples))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


if __name__ == "__main__":
    feeds.main(quantize, "tensorflow")
