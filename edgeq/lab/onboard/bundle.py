"""A bundle as it lies on the device: its files are checked before any of them is used."""

import hashlib
import json
import tokenize
import zipfile
import zlib
from pathlib import Path

from . import interpreters, private
from .events import Failure

_CHUNK_BYTES = 1 << 20
_JSON_LIMIT_BYTES = 16 << 20


UNREADABLE = (OSError, ValueError, KeyError, EOFError, SyntaxError, RuntimeError, NotImplementedError)
UNREADABLE += (tokenize.TokenError, zipfile.BadZipFile, zlib.error)
"""What NumPy and zipfile raise for archives that are none, cut off, encrypted or have wrong headers."""


class Bundle:
    """Manifest, I/O contract and paths; `expected` maps file names to their sha256.

    The host sends the hashes it knows; without them the manifest's own hold.
    """

    def __init__(self, folder, expected=None):
        self.folder = Path(folder)
        self.manifest = self._json("manifest.json", _is_manifest)
        listed = {entry["path"]: entry["sha256"] for entry in self.manifest["files"]}
        self.expected = expected or listed
        self.model = self._checked(self.manifest["model"])
        self.golden = self._checked(self.manifest["golden"])
        self._checked("io.json")
        contract = self._json("io.json", _is_contract)
        self.inputs, self.outputs = contract["inputs"], contract["outputs"]
        self.format = self.manifest["format"]
        private.enter(self.format)  # before anybody imports NumPy

    def float_model(self):
        """The path of the float model, or None where the bundle carries none; raises Failure `altered`."""
        name = self.manifest.get("float_model")
        return self._checked(name) if isinstance(name, str) and name else None

    def _json(self, name, fits):
        try:
            with (self.folder / name).open("rb") as stream:
                found = json.loads(stream.read(_JSON_LIMIT_BYTES).decode("utf-8"))
        except OSError as error:
            raise Failure("altered", "%s cannot be read: %s" % (name, error.strerror), path=name) from None
        except (ValueError, RecursionError):
            raise Failure("altered", "%s is not JSON" % name, path=name) from None
        if not fits(found):
            raise Failure("altered", "%s is not one that edgeq writes" % name, path=name)
        return found

    def _checked(self, name):
        """The path of a file whose content is the one that was sent; raises Failure `altered`."""
        path, wanted = self.folder / name, self.expected.get(name)
        if wanted is None or sha256(path) != wanted:
            raise Failure("altered", "%s is not the file that was sent" % name, path=name)
        return path


def _is_manifest(found):
    if not isinstance(found, dict) or not isinstance(found.get("files"), list):
        return False
    texts = [found.get(key) for key in ("model", "golden")]
    texts += [entry.get(key) for entry in found["files"] if isinstance(entry, dict) for key in ("path", "sha256")]
    whole = all(isinstance(text, str) for text in texts) and len(texts) == 2 + 2 * len(found["files"])
    return whole and found.get("format") in tuple(interpreters.FORMATS)


def _is_contract(found):
    sides = [found.get(side) for side in ("inputs", "outputs")] if isinstance(found, dict) else [None]
    return all(isinstance(side, list) and all(_is_port(port) for port in side) for side in sides)


def _is_port(port):
    if not isinstance(port, dict) or not all(isinstance(port.get(key), str) for key in ("name", "dtype")):
        return False
    return isinstance(port.get("shape"), list) and all(type(size) is int for size in port["shape"])


def sha256(path):
    """Hex digest of a file, or None where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            for chunk in iter(lambda: stream.read(_CHUNK_BYTES), b""):
                digest.update(chunk)
    except OSError:
        return None
    return digest.hexdigest()


def arrays(path, prefix, ports):
    """Stored arrays `input_0…` of an .npz in the ports' order, checked against them."""
    import numpy as np

    try:
        with zipfile.ZipFile(str(path)), np.load(str(path), allow_pickle=False) as stored:
            found = [np.asarray(stored["%s_%d" % (prefix, number)]) for number in range(len(ports))]
    except UNREADABLE as error:
        raise Failure("bad-vectors", "%s cannot be read: %s" % (path.name, error)) from None
    for port, array in zip(ports, found):
        _check(port, array, path.name)
    return found


def _check(port, array, where):
    wanted, shape = port["shape"][1:], array.shape[1:]
    fits = len(wanted) == len(shape) and all(want in (-1, size) for want, size in zip(wanted, shape))
    if str(array.dtype) != port["dtype"] or not fits or not array.shape[:1] or not len(array):
        message = "%s: %s is %s%s, the contract says %s%s"
        values = (where, port["name"], array.dtype, list(array.shape), port["dtype"], port["shape"])
        raise Failure("bad-vectors", message % values)


def batch(ports):
    """How many vectors the model takes at once: 1 where the first axis is dynamic."""
    first = ports[0]["shape"][:1] if ports else []
    return first[0] if first and first[0] > 0 else 1
