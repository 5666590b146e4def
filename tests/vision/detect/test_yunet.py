"""YuNet's interface, through OpenCV itself; no package ships the weights.

The network here has YuNet's input and outputs, but its weights are made by hand: the brightness of a cell of 8 x 8 pixels
is the score of a box of 40 pixels there.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fkp.errors import FkpError
from fkp.vision.detect import iou, open_detector
from fkp.vision.detect.yunet import YuNet, shapes_of_points

#: Steps of 8 px from the cell's corner: eyes, nose, corners of the mouth.
FIVE = [(-1.0, -1.0), (1.0, -1.0), (0.0, 0.0), (-0.75, 1.0), (0.75, 1.0)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("yunet") / "toy.onnx"
    nodes, outputs, weights = [], [], []
    numbers = {
        "bbox": [0.0, 0.0, np.log(5.0), np.log(5.0)],
        "kps": [value for point in FIVE for value in point],
    }
    for stride in (8, 16, 32):
        cells = (640 // stride) ** 2
        gain = 1 / 255 if stride == 8 else 0.0
        weights += [
            numpy_helper.from_array(np.full((1, 3, 1, 1), gain / 3, np.float32), f"mean_{stride}"),
            numpy_helper.from_array(np.array([1, cells, 1], np.int64), f"shape_{stride}"),
        ]
        nodes += [
            helper.make_node("AveragePool", ["input"], [f"pool_{stride}"], kernel_shape=[stride] * 2, strides=[stride] * 2),
            helper.make_node("Conv", [f"pool_{stride}", f"mean_{stride}"], [f"grey_{stride}"]),
            helper.make_node("Reshape", [f"grey_{stride}", f"shape_{stride}"], [f"cls_{stride}"]),
            helper.make_node("Identity", [f"cls_{stride}"], [f"obj_{stride}"]),
        ]
        sizes = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
        for name, values in numbers.items():
            weights += [
                numpy_helper.from_array(np.zeros((1, len(values)), np.float32), f"none_{name}_{stride}"),
                numpy_helper.from_array(np.array(values, np.float32), f"these_{name}_{stride}"),
            ]
            nodes += [
                helper.make_node("MatMul", [f"cls_{stride}", f"none_{name}_{stride}"], [f"zero_{name}_{stride}"]),
                helper.make_node("Add", [f"zero_{name}_{stride}", f"these_{name}_{stride}"], [f"{name}_{stride}"]),
            ]
        outputs += [helper.make_tensor_value_info(f"{name}_{stride}", TensorProto.FLOAT, [1, cells, size]) for name, size in sizes.items()]
    given = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 640, 640])]
    graph = helper.make_graph(nodes, "toy", given, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_face_is_where_its_points_are(file: Path) -> None:
    backend = YuNet(file)
    image = np.zeros((640, 640, 3), np.uint8)
    image[200:208, 320:328] = 255
    found = backend.look(image)
    np.testing.assert_allclose(found.shapes_px[0, 2:], np.array([320, 200]) + 8 * np.array(FIVE), atol=1e-3)
    np.testing.assert_allclose(found.shapes_px[0, :2], [[304, 184], [336, 216]], atol=1e-3)
    np.testing.assert_allclose(found.scores, [1.0], atol=1e-3)
    assert len(backend.look(np.zeros((640, 640, 3), np.uint8))) == 0


def test_it_looks_through_the_same_windows(file: Path) -> None:
    detector = open_detector(str(file))
    image = np.zeros((960, 1280, 3), np.uint8)
    image[400:416, 640:656] = 255
    found = detector.find(image)
    assert len(found) == 1
    np.testing.assert_allclose(found.shapes_px[0, 4], [640, 400], atol=2)


def test_the_built_in_calibration_finds_the_box_of_labelled_points(real: tuple[object, np.ndarray], real_root: Path) -> None:
    from fkp.config import DataConfig
    from fkp.data.labels import load_labels
    from fkp.vision.crop import box_of_points

    labels = load_labels(DataConfig(source="ytfaces", root=str(real_root)))
    points = labels.points_px[::20].astype(np.float64)
    five = np.stack([points[:, 36:42].mean(1), points[:, 42:48].mean(1), points[:, 30], points[:, 48], points[:, 54]], axis=1)
    boxes = YuNet.box_map(shapes_of_points(five))
    assert np.median(iou(boxes, box_of_points(points).astype(np.float64))) > 0.87


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FkpError, match=r"the face detector's file .*absent\.onnx is missing: name a YuNet file, or write fkp"):
        open_detector(str(tmp_path / "absent.onnx"))


@pytest.mark.parametrize("name", ["yunet", "BlazeFace", "weights.pt", ""])
def test_an_unknown_name_says_what_there_is(name: str) -> None:
    with pytest.raises(FkpError, match=r"there is no face detector .*: write fkp, blazeface, dlib, or the path of a YuNet file"):
        open_detector(name)


def test_another_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 640, 640])
    other = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, 640, 640])
    graph = helper.make_graph([helper.make_node("Relu", ["input"], ["output"])], "other", [value], [other])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "relu.onnx")
    for name in ("text.onnx", "relu.onnx"):
        with pytest.raises(FkpError, match=f"{name} is not a YuNet file that OpenCV can run") as caught:
            open_detector(str(tmp_path / name))
        assert isinstance(caught.value.__cause__, cv2.error)
