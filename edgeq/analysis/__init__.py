"""What quantization costs, operator by operator, and which operator in which step is to blame.

A chain of models is taken apart: float as it came, prepared (float still), quantized, and as the runtime's fast
kernels run it. Each operator is run by itself on the float run's values, so that no error hides behind another.
`net` is a model as a graph, `matching` finds what belongs together in two models, `tflite` and `onnx` run and cut
model files, `measuring` streams samples through them, `judging` decides.
"""
