"""The interpreters that a device can have, each behind `run(inputs) -> outputs`."""

import importlib
import importlib.util

from . import known_answer, private
from .events import Failure

_MEMORY_WORDS = (
    *("bad_alloc", "out of memory", "cannot allocate", "failed to allocate", "bad allocation"),
    "failed to map segment",  # what the dynamic loader says of a library that finds no room
)
FORMATS = {
    "tflite": ("ai_edge_litert", "tflite_runtime", "tensorflow"),
    "onnx": ("onnxruntime",),
}
_MODULES = {
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow",
    "onnxruntime": "onnxruntime",
}


class Tflite:
    """A TensorFlow Lite interpreter. Only `invoke` is timed: inputs lie in the interpreter already."""

    def __init__(self, module, model, threads):
        source = {"model_path": str(model)} if not isinstance(model, bytes) else {"model_content": model}
        self._interpreter = module.Interpreter(num_threads=threads, **source)
        self._interpreter.allocate_tensors()
        self.invoke = self._interpreter.invoke

    def ports(self):
        """(inputs, outputs) as (name, dtype name) in the interpreter's order."""
        sides = (self._interpreter.get_input_details(), self._interpreter.get_output_details())
        return tuple([(entry["name"], entry["dtype"].__name__) for entry in side] for side in sides)

    def feed(self, inputs):
        """Put the inputs where the interpreter reads them; a new shape allocates again."""
        details = self._interpreter.get_input_details()
        wrong = [(entry, value) for entry, value in zip(details, inputs) if tuple(entry["shape"]) != value.shape]
        for entry, value in wrong:
            self._interpreter.resize_tensor_input(entry["index"], value.shape)
        if wrong:
            self._interpreter.allocate_tensors()
        for entry, value in zip(details, inputs):
            self._interpreter.set_tensor(entry["index"], value)
        self._interpreter.reset_all_variables()  # a recurrent cell's state would carry over from the last vector

    def fetch(self):
        """Copies of the outputs."""
        return [self._interpreter.get_tensor(entry["index"]) for entry in self._interpreter.get_output_details()]


class Onnx:
    """An onnxruntime session on its CPU provider. `invoke` is the whole `run`, as an application calls it.

    With `trace` the runtime's own profiler writes a file whose name begins with it.
    """

    def __init__(self, module, model, threads, trace=None):
        options = module.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if trace is not None:
            options.enable_profiling = True
            options.profile_file_prefix = trace
        source = model if isinstance(model, bytes) else str(model)
        self._session = module.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        self._names = [entry.name for entry in self._session.get_inputs()]
        self._feeds, self._outputs = {}, []

    def ports(self):
        """(inputs, outputs) as (name, dtype name) in the session's order."""
        sides = (self._session.get_inputs(), self._session.get_outputs())
        return tuple([(entry.name, _dtype(entry.type)) for entry in side] for side in sides)

    def feed(self, inputs):
        """Name the inputs for the next runs."""
        self._feeds = dict(zip(self._names, inputs))

    def invoke(self):
        """One inference."""
        self._outputs = self._session.run(None, self._feeds)

    def fetch(self):
        """The last inference's outputs."""
        return self._outputs

    def end_trace(self):
        """The path of the profiler's file, which is whole now."""
        return self._session.end_profiling()


def _dtype(kind):
    """`tensor(float)` -> `float32`."""
    inner = kind[kind.find("(") + 1 : -1]
    return {"float": "float32", "double": "float64", "float16": "float16"}.get(inner, inner)


def load(name):
    """The imported module of an interpreter; raises ImportError or whatever its own code raises."""
    module = importlib.import_module(_MODULES[name])
    return module.lite if name == "tensorflow" else module


def version(name):
    """The package's version as it says it, or None."""
    return getattr(importlib.import_module(name), "__version__", None)


def build(name, model, threads, **options):
    """A loaded model, ready to be fed; `options` are its class's own."""
    kind = Onnx if name == "onnxruntime" else Tflite
    return kind(load(name), model, threads, **options)


def prove(name):
    """Build an interpreter on the known-answer model and run it; raises whatever is wrong with it.

    An import proves nothing: tflite-runtime 2.14 imports beside numpy 2 and cannot build an Interpreter.
    """
    import numpy as np

    is_onnx = name == "onnxruntime"
    model = build(name, known_answer.ONNX if is_onnx else known_answer.TFLITE, 1)
    model.feed([np.array(known_answer.INPUT, np.uint8 if is_onnx else np.int8)])
    model.invoke()
    answer = model.fetch()[0].tolist()
    if answer != known_answer.ANSWER:
        raise ValueError("it computes %s where %s is right" % (answer, known_answer.ANSWER))


def installed(name):
    """Whether the package is there at all; nothing of it runs yet, for it may crash.

    Where there is a private runtime for the format, that alone counts.
    """
    runtime = private.found(format_of(name))
    if runtime is not None:
        return (runtime / name).is_dir()
    return importlib.util.find_spec(name) is not None


def format_of(name):
    """The model format that an interpreter runs."""
    return next(model_format for model_format, names in FORMATS.items() if name in names)


def choose(model_format):
    """The first interpreter for a format that works here; raises Failure `runtime-missing` with every reason."""
    reasons = {}
    for name in FORMATS[model_format]:
        if not installed(name):
            reasons[name] = "not installed"
            continue
        try:
            prove(name)
            return name
        except MemoryError:
            raise
        except Exception as error:  # a broken native package raises anything, SystemError for one
            reasons[name] = explain(error)
            if _ran_out(error):  # another package would only need more
                raise Failure("out-of-memory", "%s: %s" % (name, reasons[name])) from None
    text = "; ".join("%s: %s" % pair for pair in reasons.items())
    raise Failure("runtime-missing", "no working interpreter (%s)" % text, format=model_format, reasons=reasons)


def explain(error):
    """One line for an exception of a native library."""
    lines = str(error).strip().splitlines() or [""]
    return ("%s: %s" % (type(error).__name__, lines[0]))[:300]


def model_failure(error, doing):
    """The Failure for an exception of the interpreter while it works on the user's model."""
    return Failure("out-of-memory" if _ran_out(error) else "model-failed", "%s: %s" % (doing, explain(error)))


def _ran_out(error):
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in _MEMORY_WORDS)
