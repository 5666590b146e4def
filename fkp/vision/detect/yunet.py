"""YuNet (Wu et al. 2023, https://doi.org/10.1007/s11633-023-1423-y) by OpenCV, from a file that the user brings.

No package ships its weights: `face_detection_yunet_2023mar.onnx` of the OpenCV model zoo is such a file.
"""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np

from fkp.errors import FkpError
from fkp.vision.detect.box_map import BoxMap
from fkp.vision.detect.candidates import Candidates

#: Candidates below it are not even doubted.
_DOUBT_SCORE = 0.3
_NMS_IOU = 0.3
_TOP_K = 500
#: The box is made around the five points, so many times their extent: about as long as a face.
_BOX_OF_POINTS = 2.0


class YuNet:
    """See `DetectorBackend`.

    Its five points (eyes, tip of the nose, corners of the mouth) name features that the 68 labels have, too. The labels
    therefore calibrate them without the weights, and its own box, which they cannot, is not used.

    Args:
        path: The ONNX file.

    Raises:
        FkpError: There is no such file, or OpenCV does not take it for a YuNet.
    """

    name = "yunet"
    size_px = 640
    coarse_px = 640
    sure_px = 20.0
    least_px = 12.0
    min_score = 0.6
    tile_score = 0.7
    facial_points = 5
    #: Fitted on the five points of the labels themselves, training folds; on those of the validation fold its boxes have a
    #: median IoU of 0.896 with the labels' boxes. The weights' own error comes on top of that.
    box_map = BoxMap(
        (
            (0.0034, 0.6936, -0.0169, 0.6131, -0.2059, -1.505, 0.0267, 0.3773, -0.144, 0.3803, 0.0151),
            (-0.1373, 0.1466, -0.0772, -0.0451, -0.1344, 0.0002, -0.0233, -0.2576, 0.271, 0.235, 0.22),
            (0.3116, -1.4386, 0.0679, 1.2611, -0.0081, 0.0318, 0.1338, -0.359, 0.1912, 0.2391, -0.04),
            (0.3099, -0.083, -0.1644, 0.091, -0.1688, -0.0011, -0.265, -0.4592, 0.816, 0.4563, 0.8887),
        )
    )

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()  # It keeps its buffers in itself.
        if Path(path).suffix != ".onnx":
            raise FkpError(f"there is no face detector {str(path)!r}: write fkp, blazeface, dlib, or the path of a YuNet file (.onnx)")
        if not Path(path).is_file():
            raise FkpError(f"the face detector's file {path} is missing: name a YuNet file, or write fkp")
        size, self._any_size = (self.size_px, self.size_px), True
        try:
            self._detector = cv2.FaceDetectorYN.create(str(path), "", size, _DOUBT_SCORE, _NMS_IOU, _TOP_K)
            self.look(np.zeros((*size, 3), np.uint8))  # OpenCV misses outputs only when it runs the network.
        except cv2.error as error:
            raise FkpError(f"{path} is not a YuNet file that OpenCV can run: name another one, or write fkp") from error
        try:
            self.look(np.zeros((self.size_px // 2, self.size_px, 3), np.uint8))
        except cv2.error:  # Some files, and some OpenCVs, hold on to the size that the network was exported with.
            self._any_size = False

    def look(self, pixels_u8: np.ndarray) -> Candidates:
        """See `DetectorBackend.look`."""
        height, width = pixels_u8.shape[:2]
        if not self._any_size:
            pixels_u8 = np.pad(pixels_u8, ((0, self.size_px - height), (0, self.size_px - width), (0, 0)))
        with self._lock:
            self._detector.setInputSize(pixels_u8.shape[1::-1])
            _, rows = self._detector.detect(cv2.cvtColor(pixels_u8, cv2.COLOR_RGB2BGR))
        # Columns: x, y, width, height, five points, score.
        numbers = np.zeros((0, 15)) if rows is None else rows.astype(np.float64)
        numbers = numbers[np.isfinite(numbers).all(axis=1)]
        shapes = shapes_of_points(numbers[:, 4:14].reshape(-1, 5, 2))
        has_extent = (shapes[:, 1] > shapes[:, 0]).all(axis=1)
        return Candidates(shapes[has_extent], np.clip(numbers[has_extent, 14], 0, 1))


def shapes_of_points(points: np.ndarray) -> np.ndarray:
    """Make (N, 7, 2) shapes of (N, 5, 2) points: a square around them before them."""
    low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
    middle, half = (low + high) / 2, _BOX_OF_POINTS * (high - low).max(axis=2, keepdims=True) / 2
    return np.concatenate([middle - half, middle + half, points], axis=1)
