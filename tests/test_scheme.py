"""Landmark schemes: the built-in ones, and files of users."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fkp.config import build_config
from fkp.errors import FkpError
from fkp.scheme import IBUG68, as_setting, built_in, load_scheme

MIRRORED_REGION = {"left_brow": "right_brow", "right_brow": "left_brow", "left_eye": "right_eye", "right_eye": "left_eye"}
OWN = """
name: wings
landmarks: [left_wing, right_wing, beak, tail]
pairs: [[left_wing, right_wing]]
regions: {wings: ["0-1"]}
edges: [[left_wing, beak, right_wing, left_wing]]
normaliser: {name: span, between: [left_wing, right_wing]}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "wings.yaml"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("name", built_in())
def test_a_built_in_scheme_holds_together(name: str) -> None:
    scheme = load_scheme(name)
    everything = list(range(len(scheme)))
    assert scheme.name == name and scheme.about
    assert [scheme.mirror[scheme.mirror[point]] for point in everything] == everything
    assert sorted(point for points in scheme.regions.values() for point in points) == everything, "each is in one region"
    middle = [point for point in everything if scheme.mirror[point] == point]
    assert sorted([*scheme.left, *scheme.right, *middle]) == everything
    for region, points in scheme.regions.items():
        if MIRRORED_REGION.get(region, region) in scheme.regions:
            assert {scheme.mirror[point] for point in points} == set(scheme.regions[MIRRORED_REGION.get(region, region)]), region
    for point, landmark in enumerate(scheme.landmarks):
        if landmark.startswith("left_"):
            assert scheme.landmarks[scheme.mirror[point]] == "right_" + landmark.removeprefix("left_")
    edges = [frozenset(edge) for edge in scheme.edges]
    assert len(set(edges)) == len(edges)
    assert {frozenset(scheme.mirror[point] for point in edge) for edge in edges} == set(edges), "lines are symmetric"
    assert scheme.between is not None and scheme.mirror[scheme.between[0]] == scheme.between[1]
    assert load_scheme(json.dumps(scheme.to_json())) == scheme, "a scheme survives its JSON"
    assert as_setting(name) == name


@pytest.mark.parametrize(
    ("name", "count", "shared"), [("ibug51", 51, 51), ("wflw98", 98, 68), ("cofw29", 29, 19), ("mediapipe478", 478, 68)]
)
def test_points_of_the_same_name_are_found_in_another_scheme(name: str, count: int, shared: int) -> None:
    scheme, points = load_scheme(name), np.random.default_rng(0).normal(size=(2, 68, 2))
    out = scheme.convert(points, IBUG68)
    assert out.shape == (2, count, 2)
    assert np.isfinite(out).all(-1).sum() == 2 * shared
    for ours, theirs in scheme.places_in(IBUG68).items():
        np.testing.assert_array_equal(out[:, ours], points[:, theirs])
    np.testing.assert_array_equal(IBUG68.convert(points, IBUG68), points)


def test_ibug68_is_the_order_of_300_w() -> None:
    assert [point for point in range(68) if IBUG68.mirror[point] == point] == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    for left, right in (
        (0, 16),
        (17, 26),
        (21, 22),
        (31, 35),
        (36, 45),
        (37, 44),
        (39, 42),
        (41, 46),
        (48, 54),
        (59, 55),
        (60, 64),
        (67, 65),
    ):
        assert IBUG68.mirror[left] == right
    assert IBUG68.between == (36, 45) and IBUG68.yaw == (0, 16, 30) and IBUG68.nme_key == "nme_interocular_pct"
    assert IBUG68.groups["inner51"] == tuple(range(17, 68))
    for first, last in ((36, 41), (42, 47), (48, 59), (60, 67)):
        assert frozenset((last, first)) in {frozenset(edge) for edge in IBUG68.edges}


def test_the_other_built_in_schemes_have_their_publishers_order() -> None:
    wflw, cofw, mesh = (load_scheme(name) for name in ("wflw98", "cofw29", "mediapipe478"))
    # Known numbers: WFLW's chin, outer eye corners, corners of the mouth and pupils; COFW's; and MediaPipe's.
    for scheme, places in (
        (
            wflw,
            {"chin": 16, "left_eye_outer": 60, "right_eye_outer": 72, "left_mouth_corner": 76, "right_mouth_corner": 82, "left_pupil": 96},
        ),
        (cofw, {"left_eye_outer": 8, "right_eye_outer": 9, "left_pupil": 16, "left_mouth_corner": 22, "chin": 28, "nose_tip": 20}),
        (mesh, {"left_eye_outer": 33, "right_eye_outer": 263, "nose_tip": 4, "chin": 152, "left_mouth_corner": 61, "left_pupil": 468}),
    ):
        assert {name: scheme.landmarks.index(name) for name in places} == places


def test_a_scheme_of_ones_own(own: Path) -> None:
    scheme = load_scheme(str(own))
    assert scheme.landmarks == ("left_wing", "right_wing", "beak", "tail")
    assert scheme.mirror == (1, 0, 2, 3)
    assert scheme.regions == {"wings": (0, 1), "other": (2, 3)}
    assert scheme.edges == ((0, 2), (2, 1), (1, 0))
    assert (scheme.nme_key, scheme.between) == ("nme_span_pct", (0, 1))
    points = np.array([[0, 0], [30, 40], [5, 5], [np.nan, np.nan]])
    assert scheme.size_px(points) == 50
    assert scheme.find(["wings", "beak"]) == [0, 1, 2]
    with pytest.raises(FkpError, match=r"^scheme wings has no landmark or region jaw: there are all, wings, other$"):
        scheme.find(["jaw"])
    # A Config keeps all that is in the file: it travels to where the file is not.
    kept = build_config({"data.scheme": str(own)})
    own.unlink()
    again = build_config(json.loads(json.dumps(kept.model_dump(mode="json"))))
    assert again.scheme == scheme and again == kept
    assert again.val_nme_key == "val_nme_span_pct"


def test_a_file_that_changes_is_another_scheme(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_scheme(str(own))
    own.write_text(OWN.replace("tail", "crest"))
    assert load_scheme(str(own)).landmarks == (*first.landmarks[:3], "crest")
    own.write_text(OWN.replace("wings: [", "other: ["))
    assert load_scheme(str(own)).regions == {"other": (0, 1, 2, 3)}, "what is in no region joins the one of that name"


def test_numbers_make_names_and_the_box_is_the_normaliser(tmp_path: Path) -> None:
    (tmp_path / "plain.yaml").write_text("{name: plain, landmarks: 3}")
    scheme = load_scheme(str(tmp_path / "plain.yaml"))
    assert scheme.landmarks == ("point_0", "point_1", "point_2") and scheme.regions == {"all_points": (0, 1, 2)}
    assert (scheme.pairs, scheme.nme_key, scheme.between) == ((), "nme_box_pct", None)
    assert scheme.size_px(np.array([[0, 0], [3, 4], [np.nan, np.nan]])) == 5
    assert np.isnan(scheme.size_px(np.full((3, 2), np.nan)))


BROKEN = {
    "landmarks: [a, b]": "is no scheme: it must say at least its `name` and its `landmarks`",
    "[1, 2]": "is no scheme: it must say at least its `name` and its `landmarks`",
    "name: [": "is not valid YAML",
    "{name: a b, landmarks: 3}": "the name 'a b' is none",
    "{name: s, landmarks: 3, colour: red}": "unknown key colour",
    "{name: s, landmarks: 1}": "it has 1 landmarks: 2 to 1000 are possible",
    "{name: s, landmarks: 4000}": "2 to 1000 are possible",
    "{name: s, landmarks: [a, a]}": "landmark a stands twice",
    "{name: s, landmarks: [a, 3]}": "landmarks must be a list of names",
    "{name: s, landmarks: [left_a, b]}": "landmark left_a has no partner: add right_a",
    "{name: s, landmarks: [a, b], pairs: [[a, c]]}": "pairs names landmark 'c', which is none of it",
    "{name: s, landmarks: [a, b], pairs: [[a, 2]]}": "pairs names landmark 2, and there are 0 to 1",
    "{name: s, landmarks: [a, b], pairs: [[a, a]]}": "is not of two landmarks",
    "{name: s, landmarks: [a, b, c], pairs: [[a, b], [c, a]]}": "landmark a is in two pairs",
    "{name: s, landmarks: [a, b], regions: {r: [a], q: [a]}}": "landmark a is in two regions",
    "{name: s, landmarks: [a, b], regions: {r: []}}": "regions: r is empty",
    "{name: s, landmarks: [a, b], regions: {r: [a]}, groups: {r: [b]}}": "groups: r is empty, names a landmark twice, or is the name",
    "{name: s, landmarks: [a, b], edges: [[[0, 1]]]}": "edges names landmark [0, 1], which is none of it",
    "{name: s, landmarks: 5, edges: [['4-2']]}": "edges names the landmarks 4-2, and there are 0 to 4, the smaller number first",
    "{name: s, landmarks: 5, edges: [['0-9999999999']]}": "edges names the landmarks 0-9999999999",
    "{name: s, landmarks: [a, b], edges: 3}": "edges must be a list",
    "{name: s, landmarks: [a, b], normaliser: eyes}": "normaliser must be `box`",
    "{name: s, landmarks: [a, b], normaliser: {name: eyes, between: [a]}}": "normaliser needs two landmarks",
    "{name: s, landmarks: [a, b], yaw: [a, b]}": "yaw needs three landmarks",
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_file_that_is_no_scheme_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(FkpError) as caught:
        load_scheme(str(path))
    assert str(path) in str(caught.value) and BROKEN[text] in str(caught.value) and "\n" not in str(caught.value)


def test_a_scheme_that_is_not_there_or_takes_anothers_name(tmp_path: Path) -> None:
    with pytest.raises(FkpError, match=r"setting data.scheme: unknown scheme ibug70: built in are cofw29, five, ibug51, ibug68"):
        build_config({"data.scheme": "ibug70"})
    with pytest.raises(FkpError, match=r"cannot read scheme .*absent.yaml: No such file or directory"):
        build_config({"data.scheme": str(tmp_path / "absent.yaml")})
    (tmp_path / "false.yaml").write_text("{name: ibug68, landmarks: 68}")
    with pytest.raises(FkpError, match="the scheme calls itself ibug68, which is another one"):
        build_config({"data.scheme": str(tmp_path / "false.yaml")})
