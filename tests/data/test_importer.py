"""`fkp data import`: groups and splits, what is refused and leaves nothing, and a set that everything reads."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fkp.config import Config, DataConfig
from fkp.data import __main__ as cli
from fkp.data import importer, label_set
from fkp.data.crop_cache import open_cache
from fkp.data.importer import Asked, import_set
from fkp.data.labels import load_labels
from fkp.errors import FkpError
from fkp.evaluation.__main__ import _data as evaluated_data
from fkp.train.pipeline import make_synthetic, with_source
from fkp.vision.image import read_image, write_image
from tests.data.formats import sources
from tests.data.formats.sources import COUNT, NAMES, WRITERS, csv_text, flat, name_of, points_of

HEADER = "image,person," + ",".join(f"{axis}_{name}" for name in NAMES for axis in "xy")


def table(root: Path, person: Callable[[int], str] = str, points: Callable[[int], np.ndarray] = points_of, count: int = COUNT) -> Path:
    """A folder of a CSV and its images."""
    sources.write_images(root, count)
    (root / "faces.csv").write_text(csv_text(HEADER, lambda n: f"{name_of(n)},{person(n)},{flat(points(n))}", range(count)))
    return root


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of six persons of two images each; read only."""
    root = tmp_path_factory.mktemp("imported")
    import_set(Asked(table(root / "labels", lambda n: f"P{n // 2}"), root / "set"))
    return root / "set"


# --- what is in a set --------------------------------------------------------------------------------------------


def test_a_set_is_the_documented_files(imported: Path) -> None:
    assert sorted(path.name for path in imported.iterdir()) == ["images", "labels.jsonl", "set.json", "sheet.jpg"]
    told = json.loads((imported / "set.json").read_text())
    wanted = {"kind": "fkp set 1", "scheme": "ibug68", "faces": 12, "images": 12, "groups": 6, "format": "csv", "origin": 0.0}
    assert wanted.items() <= told.items()
    lines = [json.loads(line) for line in (imported / "labels.jsonl").read_text().splitlines()]
    assert [line["group"] for line in lines] == [f"P{n // 2}" for n in range(COUNT)]
    assert lines[0].keys() == {"image", "group", "subset", "box", "points", "visible"}
    assert lines[3]["points"][0] == points_of(3)[0].tolist() and lines[3]["image"] == "images/" + name_of(3)
    sheet = read_image(imported / "sheet.jpg")
    assert sheet.shape == (800, 2400, 3) and sheet[:400, :400].std() > 20 and sheet[400:, 2000:].std() > 20


def test_images_are_copied_or_linked(tmp_path: Path) -> None:
    place = table(tmp_path / "labels")
    for link in (False, True):
        out = tmp_path / f"set{link}"
        import_set(Asked(place, out, link=link))
        assert os.path.samefile(place / name_of(0), out / "images" / name_of(0)) == link
        assert (place / name_of(0)).read_bytes() == (out / "images" / name_of(0)).read_bytes()


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = table(tmp_path / "labels", lambda n: f"P{n // 2}")
    write_image(place / "nobody.png", sources.image_of(99))
    cli.main(["import", str(place), "--out", str(tmp_path / "set")])
    out = capsys.readouterr().out
    for line in (
        "12 faces in 12 images, from 1 file",
        "scheme ibug68: 68 points, known by their names; 816 labelled, 0 missing, 0 labelled and covered",
        "6 groups, as the labels say\n",
        "split by group: train ",
        "1 left out, all in ",
        "  1 x an image without a label: nobody.png\n",
        f"train on it: fkp train --data.root {tmp_path / 'set'}\n",
    ):
        assert line in out
    cli.main(["export", str(tmp_path / "set"), "--format", "coco", "--out", str(tmp_path / "coco")])
    assert "12 faces in 12 images, format coco" in capsys.readouterr().out


# --- groups ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (None, [f"P{n // 2}" for n in range(COUNT)]),
        ("image", [name_of(n) for n in range(COUNT)]),
        ("column:person", [f"P{n // 2}" for n in range(COUNT)]),
        (r"^(\w)_", ["abc"[n % 3] for n in range(COUNT)]),
        (r"_\d", [f"_{n // 10}" for n in range(COUNT)]),
    ],
)
def test_rules_of_groups(tmp_path: Path, rule: str | None, wanted: list[str]) -> None:
    import_set(Asked(table(tmp_path / "labels", lambda n: f"P{n // 2}"), tmp_path / "set", group=rule))
    assert label_set.read(tmp_path / "set").groups == wanted


def test_groups_by_folder(tmp_path: Path) -> None:
    for number in range(COUNT):
        folder = tmp_path / "labels" / f"clip{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / f"{number}.png", sources.image_of(number))
        (folder / f"{number}.pts").write_text(sources.pts_text(points_of(number)))
    import_set(Asked(tmp_path / "labels", tmp_path / "set", group="folder"))
    labels = label_set.read(tmp_path / "set")
    assert sorted(set(labels.groups)) == ["clip0", "clip1", "clip2", "clip3"]
    assert all(image.split("/")[1] == group for image, group in zip(labels.images, labels.groups, strict=True))


def test_near_duplicates_are_never_on_both_sides(tmp_path: Path) -> None:
    place = table(tmp_path / "labels", count=60)
    for number in range(0, 60, 2):  # Each second image is the one before it, mirrored and brighter.
        write_image(place / name_of(number + 1), np.clip(sources.image_of(number)[:, ::-1] * 0.9 + 15, 0, 255).astype(np.uint8))
    told = import_set(Asked(place, tmp_path / "set"))
    labels = label_set.read(tmp_path / "set")
    assert labels.groups[::2] == labels.groups[1::2] and len(set(labels.groups)) == 30
    assert any("30 groups, as the labels say; 30 more were joined to others" in line for line in told)
    data = DataConfig(root=str(tmp_path / "set"))
    catalog = load_labels(data)
    sides = [set((catalog.rows(subset, data) // 2).tolist()) for subset in ("train", "val", "test")]
    assert all(sides) and not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_subsets_by_files(tmp_path: Path) -> None:
    sources.write_images(tmp_path / "labels")
    parts = {"train": range(6), "val": range(6, 9), "test": range(9, 12)}
    for part, numbers in parts.items():
        (tmp_path / "labels" / f"faces_{part}.json").write_text(json.dumps(sources.coco(list(numbers))))
    import_set(Asked(tmp_path / "labels", tmp_path / "set"))
    data = DataConfig(root=str(tmp_path / "set"), split="published")
    catalog = load_labels(data)
    for part, numbers in parts.items():
        assert sorted(catalog.table["file"].iloc[catalog.rows(part, data)]) == sorted("images/" + name_of(n) for n in numbers)


# --- what is refused ---------------------------------------------------------------------------------------------


def _empty(root: Path) -> None:
    root.mkdir()


def _missing(root: Path) -> None:
    table(root)
    (root / name_of(5)).unlink()


def _broken(root: Path) -> None:
    table(root)
    (root / name_of(5)).write_bytes(b"nothing that shows anything")


def _mixed(root: Path) -> None:
    WRITERS["pts"](root)
    table(root)


def _few(root: Path) -> None:
    table(root, count=9)


def _number(root: Path) -> None:
    header = "image," + ",".join(f"{axis}{place}" for place in range(20) for axis in "xy")
    sources.write_images(root)
    (root / "faces.csv").write_text(csv_text(header, lambda n: f"{name_of(n)},{flat(points_of(n)[:20])}"))


def _one_group(root: Path) -> None:
    table(root, lambda n: "Ada")


def _one_image(root: Path) -> None:
    table(root)
    for number in range(COUNT):
        write_image(root / name_of(number), sources.image_of(0))


def _no_coco(root: Path) -> None:
    root.mkdir()
    (root / "settings.json").write_text('{"volume": 11}')


REFUSED: dict[str, tuple[Callable[[Path], object], dict[str, object], str]] = {
    "nowhere": (lambda root: None, {}, "is neither a folder nor a file: name the place of your labels"),
    "empty": (_empty, {}, "holds no file: name the folder or the file of your labels"),
    "missing image": (_missing, {}, "faces.csv, line 7: image c_05.png is missing: bring it, or name its folder with --images"),
    "broken image": (_broken, {}, "faces.csv, line 7: c_05.png is not an image that can be decoded"),
    "two formats": (_mixed, {}, "holds labels of several formats: 12 of pts (such as a_00.pts), 1 of csv (such as faces.csv)"),
    "nine faces": (_few, {}, "has 9 faces to learn from and a set needs 10: label more"),
    "one group": (_one_group, {}, "all 12 faces are of one group (Ada) and a split needs two: choose another --group"),
    "one image": (_one_image, {}, "one group (0) and a split needs two: the images are nearly the same"),
    "other number": (_number, {}, "no built-in scheme has 20 points (0, 1, 2, ...): describe yours in a YAML file"),
    "other scheme": (table, {"scheme": "five"}, "left_jaw_2, ...), and scheme five has 5: name their scheme with --scheme"),
    "unknown scheme": (table, {"scheme": "ours"}, "unknown scheme ours: built in are"),
    "no JSON of labels": (_no_coco, {}, "holds no labels of the formats"),
    "no such format there": (table, {"format": "pts"}, "holds no labels of the format pts"),
    "unknown format": (table, {"format": "yolo"}, "unknown format yolo: choose one of coco, csv,"),
    "no pattern": (table, {"group": "(("}, "is not image, folder, column:NAME or a regular expression"),
    "pattern that fits none": (table, {"group": "x(.)"}, "faces.csv, line 2: the pattern x(.) of --group is not found in a_00.png"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_one_sentence_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    make, asked, says = REFUSED[case]
    make(tmp_path / "labels")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FkpError) as caught:
        import_set(Asked(tmp_path / "labels", tmp_path / "set", **asked))  # type: ignore[arg-type]
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_scheme_whose_pairs_do_not_pair_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nlandmarks: [left_eye, right_eye, nose]\npairs: [[left_eye, right_eye], [left_eye, nose]]\n")
    with pytest.raises(FkpError, match="landmark left_eye is in two pairs"):
        import_set(Asked(table(tmp_path / "labels"), tmp_path / "set", scheme=str(path)))
    assert not (tmp_path / "set").exists()


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(FkpError, match="set exists already: choose another --out, or remove it first"):
        import_set(Asked(table(tmp_path / "labels"), tmp_path / "set"))


def test_broken_faces_can_be_left_out(tmp_path: Path) -> None:
    place = table(tmp_path / "labels", count=COUNT + 2)
    (place / name_of(3)).unlink()
    (place / name_of(4)).write_bytes(b"no image")
    import_set(Asked(table(tmp_path / "whole"), place / "before"))  # What was imported before is no further label of the folder.
    with pytest.raises(FkpError, match=r"line 5: image a_03\.png is missing.*; 1 more cannot be used, and --skip-broken leaves them out"):
        import_set(Asked(place, tmp_path / "set"))
    import_set(Asked(place, tmp_path / "set", skip_broken=True))
    assert len(label_set.read(tmp_path / "set")) == COUNT
    left_out = (tmp_path / "set" / "left_out.txt").read_text()
    assert "faces.csv, line 5: image a_03.png is missing" in left_out and "faces.csv, line 6: b_04.png is not an image" in left_out


@pytest.mark.parametrize("wrong", ["first", "last", "both"])
def test_a_wrong_label_does_not_cost_the_right_one_of_its_face(tmp_path: Path, wrong: str) -> None:
    content = sources.coco(list(range(COUNT)))
    content["images"].append({**content["images"][3], "id": 99, "width": 140, "height": 160})
    bad = [{**content["annotations"][3], "image_id": 99, "id": number} for number in range(99, 101 if wrong == "both" else 100)]
    content["annotations"] = {
        "first": [*bad, *content["annotations"]],
        "last": [*content["annotations"], *bad],
        "both": [face for face in content["annotations"] if face["id"] != 3] + bad,
    }[wrong]
    sources.write_images(tmp_path / "labels")
    (tmp_path / "labels" / "faces.json").write_text(json.dumps(content))
    import_set(Asked(tmp_path / "labels", tmp_path / "set", skip_broken=True))
    labels, left_out = label_set.read(tmp_path / "set"), (tmp_path / "set" / "left_out.txt").read_text().splitlines()
    assert labels.images.count("images/" + name_of(3)) == (wrong != "both") and len(labels) == COUNT - (wrong == "both")
    assert len(left_out) == len(bad) and all("labelled as 140 x 160 pixels" in line for line in left_out)


def test_a_face_that_is_labelled_twice_is_left_out_once(tmp_path: Path) -> None:
    place = table(tmp_path / "labels")
    right = f"{name_of(3)},3,{flat(points_of(3))}"
    (place / "faces.csv").write_text((place / "faces.csv").read_text().replace(right, f"{right}\n{right}"))
    with pytest.raises(FkpError, match="line 6: this face of the image is labelled twice: keep one label"):
        import_set(Asked(place, tmp_path / "set"))
    import_set(Asked(place, tmp_path / "set", skip_broken=True))
    assert len(label_set.read(tmp_path / "set")) == COUNT


@pytest.mark.parametrize("linked", [False, True], ids=["folders", "a link before .."])
def test_images_beside_the_labels_folders(tmp_path: Path, linked: bool) -> None:
    """Two folders of labels that name one folder of images from where they are."""
    place = tmp_path / "labels"
    sources.write_images(place / "img")
    folders = ["l1", "l2"]

    def row(number: int) -> str:
        return f"../{'l1/../' if linked else ''}img/{name_of(number)},{number},{flat(points_of(number))}"

    if linked:
        (tmp_path / "far" / "l0").mkdir(parents=True)
        (place / "img").rename(tmp_path / "far" / "img")
        (place / "l1").symlink_to(tmp_path / "far" / "l0")
        folders = ["l2"]
    for part, folder in enumerate(folders):
        (place / folder).mkdir(parents=True)
        numbers = range(COUNT) if linked else range(6 * part, 6 * part + 6)
        (place / folder / "faces.csv").write_text(csv_text(HEADER, row, numbers))
    told = import_set(Asked(tmp_path / "labels" / ".." / "labels", tmp_path / "set"))
    assert sorted(label_set.read(tmp_path / "set").images) == sorted("images/" + name_of(n) for n in range(COUNT))
    assert "nothing is left out" in told


def test_a_name_that_is_not_utf8_is_one_sentence(tmp_path: Path) -> None:
    WRITERS["pts"](tmp_path / "labels")
    odd = tmp_path / "labels" / os.fsdecode(b"caf\xe9.png")
    try:
        (tmp_path / "labels" / name_of(5)).rename(odd)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    (tmp_path / "labels" / name_of(5)).with_suffix(".pts").rename(odd.with_suffix(".pts"))
    sentence = r"caf\xe9.pts: the name of image caf\xe9.png is not UTF-8: rename it"
    with pytest.raises(FkpError, match=re.escape(sentence)):
        import_set(Asked(tmp_path / "labels", tmp_path / "set"))
    odd.with_suffix(".pts").unlink()  # Nobody's image may be called so.
    odd.with_name(os.fsdecode(b"\xe9.pts")).write_text(sources.pts_text(points_of(5)))
    told = import_set(Asked(tmp_path / "labels", tmp_path / "set", skip_broken=True))
    left_out = (tmp_path / "set" / "left_out.txt").read_text()
    assert len(label_set.read(tmp_path / "set")) == COUNT - 1
    assert r"caf\xe9.png: an image without a label" in left_out and r"\xe9.pts: no image" in left_out
    assert "\n".join(told).encode()


def test_a_full_disk_leaves_nothing(tmp_path: Path, file_limit: Callable[[int], None]) -> None:
    place = table(tmp_path / "labels")
    file_limit(2000)
    with pytest.raises(FkpError, match=r"cannot write .*set: File too large: free some space or choose another --out"):
        import_set(Asked(place, tmp_path / "set"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels"]


def test_progress_shows_only_after_two_seconds(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    place = table(tmp_path / "labels")
    import_set(Asked(place, tmp_path / "set"))
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(importer, "_QUIET_S", 0.0)
    import_set(Asked(place, tmp_path / "again"))
    err = capfd.readouterr().err
    assert all(what in err for what in ("labels: ", "images: ", "copies: "))


# --- a set of another scheme, and everything that reads one ------------------------------------------------------


def mine(root: Path) -> Path:
    path = root / "mine.yaml"
    path.write_text(
        "name: mine\nlandmarks: [left_eye, right_eye, tip, left_corner, right_corner, chin]\nnormaliser: {name: eyes, between: [0, 1]}\n"
    )
    return path


def test_a_scheme_of_ones_own_travels_with_the_set(tmp_path: Path) -> None:
    places, names = [36, 45, 30, 48, 54, 8], ["left_eye", "right_eye", "tip", "left_corner", "right_corner", "chin"]
    header = "image," + ",".join(f"{name}_{axis}" for name in names for axis in "xy")
    sources.write_images(tmp_path / "labels")
    (tmp_path / "labels" / "faces.csv").write_text(csv_text(header, lambda n: f"{name_of(n)},{flat(points_of(n)[places])}"))
    told = import_set(Asked(tmp_path / "labels", tmp_path / "set", scheme=str(mine(tmp_path))))
    (tmp_path / "mine.yaml").unlink()
    scheme = str(tmp_path / "set" / "scheme.json")
    assert told[-1] == f"train on it: fkp train --data.root {tmp_path / 'set'} --data.scheme {scheme}"
    catalog = load_labels(DataConfig(root=str(tmp_path / "set"), scheme=scheme))
    np.testing.assert_allclose(catalog.points_px, [points_of(n)[places] for n in range(COUNT)], atol=6e-4)
    says = "is labelled in scheme mine, which has no left_jaw_0 of ibug68: its own is --data.scheme "
    with pytest.raises(FkpError, match=re.escape(says + scheme)):
        load_labels(DataConfig(root=str(tmp_path / "set")))


def test_no_bias_of_another_source_is_taken_out(imported: Path) -> None:
    catalog = load_labels(DataConfig(source="ytfaces", root=str(imported)))
    np.testing.assert_array_equal(catalog.points_px, catalog.points_raw_px)


def test_stats_and_pack(imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["stats", "--root", str(imported)])
    assert "6 persons, 6 clips, 12 frames" in capsys.readouterr().out
    cli.main(["pack", "--root", str(imported), "--out", str(tmp_path / "packed")])
    data = DataConfig(source="folder", root=str(tmp_path / "packed"), backend="stream")
    packed, files = load_labels(data), load_labels(DataConfig(root=str(imported)))
    np.testing.assert_array_equal(packed.points_raw_px, files.points_raw_px)
    assert packed.digest == files.digest and packed.read_bytes(3) == files.read_bytes(3)


def test_verify_says_what_reads_an_imported_set(imported: Path) -> None:
    with pytest.raises(FkpError, match="is an imported set and no manifest lists it: `fkp data stats --root"):
        cli.main(["verify", "--root", str(imported)])


def test_weights_are_kept_by_name_and_follow_a_smaller_scheme(imported: Path, tmp_path: Path) -> None:
    labels = label_set.read(imported)
    assert labels.weights is None
    weights = np.linspace(0.1, 1, labels.visible.size, dtype=np.float32).reshape(labels.visible.shape)
    label_set.write(tmp_path, replace(labels, weights=weights), {})
    assert label_set.read(tmp_path).weights == pytest.approx(weights, abs=1e-3)
    catalog = load_labels(DataConfig(source="folder", root=str(tmp_path), scheme="ibug51"))
    assert catalog.weights == pytest.approx(weights[:, 17:], abs=1e-3)


def test_a_line_that_is_broken_is_named(imported: Path, tmp_path: Path) -> None:
    row = json.loads((imported / "labels.jsonl").read_text().splitlines()[2])
    for number, (change, says) in enumerate(
        (
            ({"points": row["points"][:5]}, "5 points and not the 68 of ibug68"),
            ({"image": "../secret.png"}, "image '../secret.png' is no name below the folder"),
            ({"points": [["a", "b"], *row["points"][1:]]}, "points are not pairs of numbers"),
            ({"points": [[float("nan"), 4], *row["points"][1:]]}, "points are not pairs of finite numbers"),
            ({"points": [[4, None], *row["points"][1:]]}, "points are not pairs of finite numbers"),
            ({"points": [[4, float("inf")], *row["points"][1:]]}, "points are not pairs of finite numbers"),
            ({"points": [[], *row["points"][1:]]}, "points are not pairs of numbers"),
            ({"box": [1, 2, 3, None]}, "box is not four numbers"),
            ({"subset": "holdout"}, "subset 'holdout' is not train, val, test or null"),
            ({"group": ""}, "group is no name"),
            ({"colour": 1}, "it needs box, group, image, points, subset, visible, may have weights, and nothing else"),
            ({"weights": {"horn": 0.5}}, "ibug68 has no 'horn' to weigh"),
            ({"weights": {"chin": 0}}, "the weight of chin is 0 and not a number above 0 and up to 1"),
            ({"weights": {"chin": "much"}}, "the weight of chin is 'much' and not a number above 0 and up to 1"),
            ({"weights": [1]}, "weights are no object of names and numbers"),
        )
    ):
        root = tmp_path / str(number)
        root.mkdir()
        (root / "set.json").write_text((imported / "set.json").read_text())
        lines = (imported / "labels.jsonl").read_text().splitlines()
        lines[2] = json.dumps({**row, **change})
        (root / "labels.jsonl").write_text("\n".join(lines))
        with pytest.raises(FkpError) as caught:
            load_labels(DataConfig(root=str(root)))
        assert f"labels.jsonl, line 3: {says}: correct or remove the line" in str(caught.value)


def with_missing_points(root: Path, count: int) -> Path:
    """A set of persons of one image each; every third has no jaw labelled."""

    def points(number: int) -> np.ndarray:
        found = points_of(number)
        found[: 17 * (number % 3 == 0)] = np.nan
        return found

    place = table(root / "labels", lambda n: f"P{n}", points, count)
    (place / "faces.csv").write_text((place / "faces.csv").read_text().replace("nan", ""))
    import_set(Asked(place, root / "set"))
    return root / "set"


def test_training_begins_with_an_imported_set(tmp_path: Path, small_run: Callable[..., Config]) -> None:
    root = with_missing_points(tmp_path, 40)
    config = small_run(data__root=str(root))
    assert config.data.source == "synthetic", "that the set is none is what it says itself"
    before = sorted(path.name for path in root.iterdir())
    config = with_source(config)
    make_synthetic(config)
    assert sorted(path.name for path in root.iterdir()) == before and config.data.source == "folder"
    cache, catalog = open_cache(config), load_labels(config.data)
    assert cache.train is not None and len(cache.train.rows) + len(cache.val.rows) + len(catalog.rows("test", config.data)) == 40
    for part in (cache.train, cache.val):
        missing = np.isnan(part.points_px).all(-1)
        assert (missing[:, :17].all(1) == (part.rows % 3 == 0)).all() and not missing[:, 17:].any() and part.crops_u8.std() > 10


@pytest.mark.slow("a whole training; the fast tier holds what it begins with")
def test_training_from_an_imported_set_to_its_bundle(tmp_path: Path, small_run: Callable[..., Config]) -> None:
    from fkp.train.pipeline import train

    outcome = train(small_run(data__root=str(with_missing_points(tmp_path, 40)), train__epochs=1))
    (evaluation,) = outcome.evaluations
    assert len(evaluation) == len(set(evaluation.identities)) > 0 and "folder" in evaluation.title
    assert np.isnan(evaluation.truth_px()).any()


def test_evaluation_takes_an_imported_set_for_what_it_is(imported: Path) -> None:
    trained = DataConfig(source="ytfaces", label_bias_px=(3.0, 2.0))
    assert evaluated_data(trained, None, str(imported)) == DataConfig(source="folder", root=str(imported))
