"""Every format of labels: what is imported is what its tool meant, to a thousandth of a pixel; and what each leaves out or refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fkp.config import DataConfig
from fkp.data.formats import FORMATS
from fkp.data.importer import Asked, import_set
from fkp.data.labels import Catalog, load_labels
from fkp.errors import FkpError
from fkp.scheme import load_scheme
from tests.data.formats import sources
from tests.data.formats.sources import COUNT, NAMES, WRITERS, name_of, points_of


def brought(place: Path, out: Path, scheme: str = "ibug68", **asked: object) -> Catalog:
    import_set(Asked(place, out, **asked))  # type: ignore[arg-type]
    return load_labels(DataConfig(root=str(out), scheme=scheme))


def by_number(catalog: Catalog) -> list[np.ndarray]:
    """Points of each face in the order of its image's name: that of its number."""
    digits = ["".join(sign for sign in Path(name).stem if sign.isdigit())[-2:] for name in catalog.table["file"]]
    return [points for _, points in sorted(zip(digits, catalog.points_raw_px, strict=True), key=lambda pair: pair[0])]


def test_every_format_is_tested() -> None:
    assert set(WRITERS) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_imported_is_what_was_labelled(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / "labels")
    scheme = "wflw98" if name == "wflw" else "ibug68"
    told = import_set(Asked(tmp_path / "labels", tmp_path / "set"))
    assert FORMATS[name].about in told[0] and f"{COUNT} faces in {COUNT} images" in told[0]
    assert any(f"scheme {scheme}: " in line for line in told)
    catalog = load_labels(DataConfig(root=str(tmp_path / "set"), scheme=scheme))
    assert len(catalog) == COUNT
    wanted = [sources.wflw_points(n) if name == "wflw" else points_of(n) for n in range(COUNT)]
    found = by_number(catalog)
    if name == "frames":  # Its files are named after persons, of one digit and two.
        numbers = [int(Path(file).stem.removeprefix("Person").partition("_")[0]) for file in catalog.table["file"]]
        found = [catalog.points_raw_px[numbers.index(n)] for n in range(COUNT)]
    np.testing.assert_allclose(found, wanted, atol=6e-4)
    for row in range(COUNT):
        assert catalog.image(row).shape == (sources.HEIGHT, sources.WIDTH, 3)


@pytest.mark.parametrize("name", [name for name, known in FORMATS.items() if known.write])
def test_exported_is_what_was_imported(tmp_path: Path, name: str) -> None:
    from fkp.data.exporter import export_set

    text = json.loads(json.dumps(sources.coco(list(range(COUNT)))))
    text["annotations"][3]["keypoints"][30:33] = 0, 0, 0
    text["annotations"][4]["keypoints"][35] = 1  # Covered, and labelled all the same.
    sources.write_images(tmp_path / "labels")
    (tmp_path / "labels" / "faces.json").write_text(json.dumps(text))
    first = brought(tmp_path / "labels", tmp_path / "set")
    assert export_set(tmp_path / "set", name, tmp_path / "out") == (COUNT, COUNT)
    again = brought(tmp_path / "out", tmp_path / "again")
    np.testing.assert_allclose(by_number(again), by_number(first), atol=1.1e-3)
    assert np.isnan(first.points_raw_px).sum() == 2
    from fkp.data import label_set

    seen = [label_set.read(tmp_path / folder).visible.sum() for folder in ("set", "again")]
    assert seen[0] == COUNT * 68 - 2 and seen[1] == (seen[0] if name != "pts" else COUNT * 68 - 1)


def test_pts_cannot_hold_two_faces_of_an_image(tmp_path: Path) -> None:
    from fkp.data.exporter import export_set

    text = sources.coco(list(range(COUNT)))
    text["annotations"][1]["image_id"] = 7
    text["annotations"][1]["keypoints"] = [value for x, y in (points_of(1) * 0.4).tolist() for value in (x, y, 2)]
    sources.write_images(tmp_path / "labels")
    (tmp_path / "labels" / "faces.json").write_text(json.dumps(text))
    import_set(Asked(tmp_path / "labels", tmp_path / "set"))
    with pytest.raises(FkpError, match=r"images/a_00\.png holds several faces"):
        export_set(tmp_path / "set", "pts", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- where pixels are counted from -------------------------------------------------------------------------------


def test_origin_can_be_asked(tmp_path: Path) -> None:
    WRITERS["pts"](tmp_path / "labels")
    catalog = brought(tmp_path / "labels", tmp_path / "set", origin=0.0)
    np.testing.assert_allclose(by_number(catalog), [points_of(n) + 1 for n in range(COUNT)], atol=6e-4)


# --- COCO --------------------------------------------------------------------------------------------------------


def coco_set(root: Path, change: Callable[[dict], None]) -> Path:
    sources.write_images(root / "labels")
    content = sources.coco(list(range(COUNT)))
    change(content)
    (root / "labels" / "faces.json").write_text(json.dumps(content))
    return root / "labels"


def test_coco_visibility_and_what_is_left_out(tmp_path: Path) -> None:
    def change(content: dict) -> None:
        content["annotations"][0]["keypoints"][:6] = [0, 0, 0, *content["annotations"][0]["keypoints"][3:5], 1]
        content["annotations"].append({"id": 99, "image_id": 7, "category_id": 1, "keypoints": [0] * 204, "iscrowd": 0})
        content["annotations"].append({"id": 100, "image_id": 8, "category_id": 1, "keypoints": [5] * 204, "iscrowd": 1})

    from fkp.data import label_set

    told = import_set(Asked(coco_set(tmp_path, change), tmp_path / "set"))
    labels = label_set.read(tmp_path / "set")
    face = labels.images.index("images/" + name_of(0))
    assert np.isnan(labels.points_px[face, 0]).all() and not labels.visible[face, :2].any() and labels.visible[face, 2:].all()
    np.testing.assert_allclose(labels.points_px[face, 1], points_of(0)[1])
    assert labels.boxes_px[face].tolist() == [30, 20, 120, 100]
    left_out = (tmp_path / "set" / "left_out.txt").read_text()
    assert "annotation 99: no point is labelled" in left_out and "annotation 100: a crowd" in left_out
    assert "  1 x a crowd: faces.json, annotation 100" in told


def test_coco_points_in_another_order_are_known_by_their_names(tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(68)

    def shuffle(content: dict) -> None:
        content["categories"][0]["keypoints"] = [NAMES[place] for place in order]
        for annotation in content["annotations"]:
            triples = np.array(annotation["keypoints"]).reshape(-1, 3)
            annotation["keypoints"] = triples[order].ravel().tolist()

    found = brought(coco_set(tmp_path, shuffle), tmp_path / "set")
    np.testing.assert_allclose(by_number(found), [points_of(n) for n in range(COUNT)], atol=6e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content.pop("annotations"), "faces.json is JSON but no COCO file (there is no 'annotations')"),
        (lambda content: content["annotations"][2].update(image_id=1000), "annotation 2: there is no image 1000"),
        (lambda content: content["annotations"][2].update(keypoints=[1, 2]), "annotation 2: a value has another form"),
        (lambda content: content["annotations"][2].update(keypoints=[1, 2, 2] * 5), "annotation 2: 5 points and not"),
        (lambda content: [entry.pop("keypoints") for entry in content["annotations"]], "is a COCO file without keypoints"),
        (
            lambda content: content["images"][2].update(width=140, height=160),
            "annotation 2: labelled as 140 x 160 pixels and c_02.png has 160 x 140: label it as it is displayed, turned by its EXIF data",
        ),
    ],
    ids=["no annotations", "no image", "form", "number", "no keypoints", "size"],
)
def test_broken_coco_is_one_sentence(tmp_path: Path, change: Callable[[dict], None], says: str) -> None:
    place = coco_set(tmp_path, change)
    with pytest.raises(FkpError) as caught:
        import_set(Asked(place, tmp_path / "set"))
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels"]


# --- CVAT and Label Studio ---------------------------------------------------------------------------------------


def cvat_single(number: int) -> str:
    """Single points of one face, of a group where the number is odd."""
    group = f' group_id="{number}"' if number % 2 else ""
    return "".join(
        f'<points label="{place + 1}" occluded="0"{group} points="{x:.2f},{y:.2f}"></points>\n'
        for place, (x, y) in enumerate((points_of(number) + 0.5).tolist())
    )


@pytest.mark.parametrize("shape", [sources.cvat_points, cvat_single], ids=["points", "single points numbered from 1"])
def test_other_shapes_of_cvat(tmp_path: Path, shape: Callable[[int], str]) -> None:
    sources.write_images(tmp_path / "labels")
    (tmp_path / "labels" / "annotations.xml").write_text(sources.cvat_text(shape))
    catalog = brought(tmp_path / "labels", tmp_path / "set")
    np.testing.assert_allclose(by_number(catalog), [points_of(n) for n in range(COUNT)], atol=6e-3)


def test_cvat_hidden_points(tmp_path: Path) -> None:
    text = sources.cvat_text(sources.cvat_skeleton)
    text = text.replace(f'label="{NAMES[5]}" outside="0"', f'label="{NAMES[5]}" outside="1"')
    text = text.replace(f'label="{NAMES[6]}" outside="0" occluded="0"', f'label="{NAMES[6]}" outside="0" occluded="1"')
    sources.write_images(tmp_path / "labels")
    (tmp_path / "labels" / "annotations.xml").write_text(text)
    from fkp.data import label_set

    import_set(Asked(tmp_path / "labels", tmp_path / "set"))
    labels = label_set.read(tmp_path / "set")
    assert np.isnan(labels.points_px[:, 5]).all() and np.isfinite(labels.points_px[:, 6]).all()
    assert not labels.visible[:, 5:7].any() and labels.visible[:, 7:].all()


def test_label_studio_by_regions_and_min(tmp_path: Path) -> None:
    tasks = [sources.studio_task(number) for number in range(COUNT)]
    two = json.loads(json.dumps(tasks[0]["annotations"]))[0]["result"]
    for result in two:
        result["parentID"] = "right"
        result["value"]["x"] = result["value"]["x"] * 0.3 + 65
        result["value"]["y"] *= 0.3
    tasks[0]["annotations"][0]["result"] += two  # type: ignore[index]
    last = tasks.pop()
    items = [{**result["value"], "original_width": 160, "original_height": 140} for result in last["annotations"][0]["result"]]  # type: ignore[index]
    least = [{"id": 3, "image": last["data"]["image"], "kp": items}]  # type: ignore[index]
    sources.write_images(tmp_path / "labels")
    (tmp_path / "labels" / "a.json").write_text(json.dumps(tasks))
    (tmp_path / "labels" / "b.json").write_text(json.dumps(least))
    catalog = brought(tmp_path / "labels", tmp_path / "set")
    of_first = catalog.points_raw_px[catalog.table["file"] == "images/" + name_of(0)]
    assert len(catalog) == COUNT + 1 and len(of_first) == 2
    assert catalog.table["identity"][catalog.table["file"] == "images/" + name_of(0)].nunique() == 1, "faces of one image stay together"
    np.testing.assert_allclose(catalog.points_raw_px[catalog.table["file"] == "images/" + name_of(11)][0], points_of(11), atol=6e-4)


# --- WFLW, imglab, .pts ------------------------------------------------------------------------------------------


def test_imglab_says_lines_of_what_it_leaves_out(tmp_path: Path) -> None:
    WRITERS["imglab"](tmp_path / "labels")
    path = tmp_path / "labels" / "faces.xml"
    path.write_text(
        path.read_text("latin-1").replace(
            "</box>\n</image>", "</box>\n<box top='1' left='1' width='9' height='9' ignore='1'/>\n</image>", 1
        ),
        "latin-1",
    )
    import_set(Asked(tmp_path / "labels", tmp_path / "set"))
    assert (tmp_path / "set" / "left_out.txt").read_text() == "faces.xml, line 75: a box that its file says to ignore\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (sources.pts_text(points_of(1)).replace("68", "67"), "a_00.pts: its header says 67 points and it has 68"),
        ("1 2\nfive 6\n", "a_00.pts, line 2: 'five 6' is no point"),
        (sources.pts_text(points_of(1)[:50]), "a_00.pts: 50 points and not the 68 of ibug68"),
        (sources.pts_text(points_of(1)[list(load_scheme("ibug68").mirror)]), "a_00.pts: the face is mirrored"),
        (sources.pts_text(points_of(1) + 400), "a_00.pts: a point lies"),
    ],
    ids=["header", "word", "number", "mirrored", "outside"],
)
def test_broken_pts_is_one_sentence_or_left_out(tmp_path: Path, text: str, says: str) -> None:
    WRITERS["pts"](tmp_path / "labels")
    (tmp_path / "labels" / "a_00.pts").write_text(text)
    with pytest.raises(FkpError) as caught:
        import_set(Asked(tmp_path / "labels", tmp_path / "set"))
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels"]
    told = import_set(Asked(tmp_path / "labels", tmp_path / "set", skip_broken=True))
    assert f"{COUNT - 1} faces in {COUNT - 1} images" in told[0]
    assert says in (tmp_path / "set" / "left_out.txt").read_text()
