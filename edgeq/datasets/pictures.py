"""Pictures of a folder, decoded one at a time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from edgeq.datasets import files
from edgeq.errors import DatasetError
from edgeq.types import InputSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    Array = NDArray[np.generic]

PIXEL_LIMIT = 50_000_000
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "GIF", "TIFF")  # none that starts another program
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".tif", ".tiff"})
_MODES = MappingProxyType({"rgb": "RGB", "bgr": "RGB", "gray": "L"})


class Pictures:
    """Pictures as uint8 height x width x channel; raises DatasetError that names the file.

    They are resized with Pillow's bilinear filter (which averages when it shrinks) to `resize` = height,
    width. An orientation noted in EXIF is not applied.
    """

    def __init__(self, spec: InputSpec, paths: Sequence[Path], where: str) -> None:
        self.where = where
        self.count = len(paths)
        self._spec, self._paths = spec, paths
        self.dtype = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the first picture, after `resize`."""
        return self.read(0).shape

    def read(self, index: int) -> Array:
        """One picture."""
        path = files.regular(self._paths[index])
        pixels = _decoded(path, _MODES[self._spec.color], self._spec.resize)
        pixels = pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels
        return np.ascontiguousarray(pixels[:, :, ::-1]) if self._spec.color == "bgr" else pixels

    def close(self) -> None:
        """Nothing is kept open."""


def paths(spec: InputSpec, root: str) -> list[Path]:
    """The pictures of an input in their order: a CSV column's, or all in the folder by name."""
    folder = files.inside(root, spec.images or "")
    if not folder.is_dir():
        raise DatasetError("no such folder", where=str(folder))
    if spec.list is None:
        found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        if not found:
            raise DatasetError("no pictures here", where=str(folder), hint=f"known are {' '.join(sorted(SUFFIXES))}")
        return found
    table, _, name = spec.list.partition("#")
    if not name:
        raise DatasetError(f"list {spec.list!r} names no column", where=root, hint=f"list: {table}#file")
    return [files.inside(str(folder), entry) for entry in files.column(files.inside(root, table), name)]


def _decoded(path: Path, mode: str, resize: tuple[int, int] | None) -> Array:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                return _pixels(_checked(picture, path), mode, resize)
    except UnidentifiedImageError as error:
        raise DatasetError("not a picture that can be read", where=str(path)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetError(f"more than {PIXEL_LIMIT:,} pixels", where=str(path)) from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as error:  # as Pillow's decoders fail
        raise DatasetError(f"broken picture: {str(error)[:200]}", where=str(path)) from error


def _checked(picture: Image, path: Path) -> Image:
    if picture.width * picture.height > PIXEL_LIMIT:
        raise DatasetError(f"more than {PIXEL_LIMIT:,} pixels", where=str(path))
    if picture.mode in ("I", "F") or ";16" in picture.mode:
        raise DatasetError(f"more than 8 bits a channel ({picture.mode})", where=str(path), hint="use an .npz")
    return picture


def _pixels(picture: Image, mode: str, resize: tuple[int, int] | None) -> Array:
    from PIL import Image

    picture = picture if picture.mode == mode else picture.convert(mode)
    if resize is not None and picture.size != (resize[1], resize[0]):
        picture = picture.resize((resize[1], resize[0]), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8)
