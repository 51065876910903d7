"""Run in a process of its own by test_converters_keras.py: writes Keras files into a folder with TensorFlow."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"})

import keras
import numpy as np
import tensorflow as tf
import tf_keras


def picture_model(api: Any, shape: tuple[int | None, ...] = (8, 8, 3), code: bool = False) -> Any:
    api.utils.set_random_seed(1)
    layers = api.layers
    values = start = api.Input(shape, name="picture")
    values = layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu6")(values))
    if code:
        values = layers.Lambda(lambda tensor: tensor * 2, name="doubled")(values)
    values = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(values))
    return api.Model(start, values)


def two_ports() -> Any:
    """Inputs and outputs whose names sort the other way round."""
    keras.utils.set_random_seed(2)
    one, two = keras.Input((5,), name="b_first"), keras.Input((3,), name="a_second")
    both = keras.layers.Concatenate()([one, two])
    return keras.Model([one, two], [keras.layers.Dense(2, name="z")(both), keras.layers.Dense(2, name="y")(two)])


class WritesFile(tf.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32)])
    def serve(self, values: Any) -> Any:
        tf.io.write_file(self._path, "x")
        return values * 2


def main(folder: Path) -> None:
    made = picture_model(keras)
    made.save(folder / "k3.keras")
    made.save(folder / "k3.h5")
    made.export(folder / "saved", verbose=False)
    old = picture_model(tf_keras)
    old.save(folder / "k2.h5")
    sample = np.random.default_rng(0).uniform(0, 1, (1, 8, 8, 3)).astype(np.float32)
    np.savez(folder / "answers.npz", sample=sample, k3=made(sample), k2=old(sample))
    picture_model(keras, code=True).save(folder / "lambda.keras")
    picture_model(tf_keras, code=True).save(folder / "lambda.h5")
    picture_model(keras, shape=(None, None, 3)).save(folder / "open.keras")
    made.save_weights(folder / "only.weights.h5")
    both = two_ports()
    both.save(folder / "two.keras")
    inputs = [np.ones((1, 5), np.float32), np.full((1, 3), 2, np.float32)]
    np.savez(folder / "two.npz", *[np.asarray(value) for value in both(inputs)])
    module = WritesFile(str(folder / "pwned"))
    tf.saved_model.save(module, str(folder / "writes"), signatures={"serving_default": module.serve})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
