"""dlib's frontal face detector: histograms of oriented gradients under a linear classifier (King 2015, arXiv:1502.00046).

From the package dlib-bin (Boost Software License), an alternative that needs no network: its weights are a part of the
library's code.
"""

from __future__ import annotations

import threading

import numpy as np

from fkp.errors import FkpError
from fkp.vision.detect.box_map import BoxMap
from fkp.vision.detect.candidates import Candidates

_INSTALL = "install it with `pip install dlib-bin==20.0.1.post1`"


class DlibHog:
    """See `DetectorBackend`. Its faces are 80 pixels long or longer, upright and seen from the front.

    Raises:
        FkpError: dlib is not installed.
    """

    name = "dlib"
    size_px = 512
    coarse_px = 1024
    sure_px = least_px = 80.0
    min_score = 0.5
    tile_score = 0.5
    facial_points = 0
    #: Of 1,174 frames of the training folds (2 to 4) of the YouTube-Faces set, labels corrected. On the validation fold 97 %
    #: are found, with a median IoU of 0.745.
    box_map = BoxMap(((-0.0081,), (0.1004,), (0.9945,), (0.9598,)))

    def __init__(self) -> None:
        try:
            import dlib
        except ImportError as error:
            raise FkpError(f"the face detector dlib is not installed (package dlib-bin): {_INSTALL}") from error
        self._detector = dlib.get_frontal_face_detector()
        self._lock = threading.Lock()  # It keeps the image's pyramid in itself.

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        """See `DetectorBackend.look`. The score is the logistic of the margin: from 0.5 on, not a probability."""
        with self._lock:
            boxes, margins, _ = self._detector.run(pixels_u8, 0, 0.0)
        corners = [[(box.left(), box.top()), (box.right(), box.bottom())] for box in boxes]
        return Candidates(np.array(corners, np.float64).reshape(-1, 2, 2), 1 / (1 + np.exp(-np.array(margins, np.float64))))
