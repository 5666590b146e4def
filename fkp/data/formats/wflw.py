"""WFLW: a text file, one face a line: x and y of 98 points, a box (x0 y0 x1 y1) and six attributes or neither, and the image's name.

W. Wu et al., "Look at Boundary", CVPR 2018. The images lie in `WFLW_images`. Nothing says how pixels are counted; it is taken as from 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fkp.data.formats.numbers import floats, without_markers
from fkp.data.formats.registry import Face, Format, register
from fkp.data.formats.source import Source

_POINTS = 98
_LENGTHS = (2 * _POINTS, 2 * _POINTS + 4, 2 * _POINTS + 10)


def _read(path: Path, source: Source) -> Iterator[Face]:
    for number, line in enumerate(source.text(path).splitlines(), 1):
        where, words = f"{source.short(path)}, line {number}", line.split()
        if not words:
            continue
        values = floats(words[:-1])
        if values is None or len(values) not in _LENGTHS:
            reason = f"{len(words)} words, and not {2 * _POINTS} coordinates, a box, attributes and a name: correct or remove the line"
            source.faults.append((where, reason))
            continue
        image = source.image(words[-1], path.parent, where)
        if image is not None:
            points = np.array(values[: 2 * _POINTS]).reshape(_POINTS, 2)
            yield Face(where, image, without_markers(points), box=values[2 * _POINTS :][:4] or None)


def _recognises(path: Path, head: bytes) -> bool:
    first = next((line.split() for line in head.decode("latin-1").splitlines() if line.strip()), [])
    return len(first) - 1 in _LENGTHS and floats(first[:-1]) is not None


register(Format("wflw", "WFLW's text: 98 points, a box, attributes and a name a line", 0.0, (".txt",), _recognises, _read))
