"""Pack a converted model into what a device needs. Each module builds one kind of artifact.

`build(quantized, folder, samples, out, name) -> Bundle`: `folder` holds the artifact, `samples` are real inputs for the
golden vectors, `out` is the bundle's folder, which appears whole or not at all.
"""
