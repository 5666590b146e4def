"""What a labelled set holds: frames, points, persons, folds. Every reader of labels goes through here.

A set is a folder in the upstream layout of udacity/P1_Facial_Keypoints:

    training_frames_keypoints.csv   test_frames_keypoints.csv   training/   test/

The first column of a CSV is a file name `<Identity>_<clip digit><frame digit>.<suffix>`; then the numbers
x0,y0,x1,y1 and so on of the scheme's landmarks (136 of ibug68) in pixels of the frame. A point that is not labelled has two empty cells or
a marker, see `_MARKER`. The synthetic set and a user's own set use the same layout.

A set that `fkp data import` made (`fkp.data.label_set`) is known by its set.json: its groups are the persons, its folder of images is the
place. A packed set (`fkp.data.packed_set`) is read as the set that was packed: the same rows in the same order, the same digest.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from fkp.common import storage
from fkp.config import PACKED_SUFFIX, DataConfig
from fkp.data import label_set
from fkp.data import packed_set as packs
from fkp.data.face_shape import first_fault
from fkp.data.label_set import LabelSet
from fkp.data.packed_set import PackedSet
from fkp.data.splits import belongs, draws_of, faces_of, fold_of
from fkp.errors import FkpError
from fkp.scheme import IBUG68, Scheme, built_in, load_scheme
from fkp.vision import image as images

CSV_FILES = ("training", "test")

#: The constant error of each source's labels, (x, y) in image pixels: label = place of the feature + shift. The
#: YouTube-Faces labels come from a machine. Networks of five families, each averaged with its own mirrored answer,
#: place the features 1.15 px to the left of them; 0.8 px in y is less certain, because no mirror shows it.
LABEL_BIAS_PX: dict[str, tuple[float, float]] = {"ytfaces": (1.15, 0.8), "synthetic": (0.0, 0.0), "folder": (0.0, 0.0)}

#: A point further outside its frame than this part of the frame's longer side is a broken label, not a cut-off face.
MAX_OUTSIDE = 0.5

#: A point at (0, 0), (-1, -1), or with both coordinates this or less is none: so people mark what they have not labelled.
_MARKER = -99

_AXIS = re.compile(r"(?:^|[^a-z])([xy])(?:[^a-z]|$)", re.IGNORECASE)

_TABLE = ["part", "file", "identity", "video", "frame", "fold"]
_WHOLE = {"video": int, "frame": int, "fold": int}
_FILE_NAME = re.compile(r"(?P<identity>.+)_(?P<video>\d)(?P<frame>\d{1,18})\.\w+")


@dataclass(frozen=True)
class Catalog:
    """The labelled frames of a set, in the order of the CSV files.

    Attributes:
        root: Folder of the set.
        table: One row a frame: part ("training" or "test": the CSV it stands in), file, identity, video, frame, fold.
        points_raw_px: (N, K, 2) float32, the labels as they stand in the CSV files; NaN where a point is not labelled.
        label_bias_px: (2,) float32, see `LABEL_BIAS_PX`.
        digest: Hex sha256 over the CSV files: the version of the labels.
        scheme: What the points are; those of a set in another scheme are taken by their names, and the others are missing.
        packed: Where the frames lie, unless they are files of their own.
        shard_index: (N, 2) then: shard of each frame, and its index in the shard.
        sha256: (N,) then: of each frame's bytes.
        imported: Whether it is a `LabelSet`: `file` is then a path below the folder, and `part` the subset that the labels name, or
            "training".
        weights: (N, K) float32, how much each label counts, see `LabelSet`; None: all the same.
    """

    root: Path
    table: pd.DataFrame
    points_raw_px: np.ndarray
    label_bias_px: np.ndarray
    digest: str
    scheme: Scheme = IBUG68
    packed: PackedSet | None = None
    shard_index: np.ndarray | None = None
    sha256: np.ndarray | None = None
    imported: bool = False
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def points_px(self) -> np.ndarray:
        """(N, K, 2) float32, the labels with their constant shift taken out: where the features are in the frame."""
        return remove_label_bias(self.points_raw_px, self.label_bias_px)

    def path(self, row: int) -> Path:
        """Where a frame lies on disk; of a packed set only its name."""
        part, file = self.table["part"].iat[row], self.table["file"].iat[row]
        path = self.root / ("" if self.imported else part) / file
        return path if self.packed is not None else images.spelled(path)

    def reading_order(self, rows: np.ndarray) -> np.ndarray:
        """In which order some rows are read fast: a packed set shard by shard. (N,) places in `rows`."""
        return np.arange(len(rows)) if self.shard_index is None else np.lexsort(self.shard_index[rows].T[::-1])

    def read_bytes(self, row: int) -> bytes:
        """The file's bytes of a frame.

        Raises:
            FkpError: It is missing, or not what was packed.
        """
        if self.packed is None:
            return images.read_bytes(self.path(row))
        assert self.shard_index is not None
        shard, index = self.shard_index[row]
        return self.packed.read_frame(int(shard), int(index))

    def image(self, row: int) -> images.Image:
        """A frame, decoded; see `vision.image.decode_image`."""
        return images.decode_image(self.read_bytes(row), f"frame {self.path(row)}")

    def rows(self, subset: str, data: DataConfig) -> np.ndarray:
        """Row numbers of one subset of a split.

        Args:
            subset: "train", "val" or "test".
            data: Says which split and which folds. Both splits hold persons of one fold out of training to choose by.
        """
        fold, csv_file, identity = (self.table[name].to_numpy() for name in ("fold", "part", "identity"))
        return np.flatnonzero(belongs(subset, data, fold, csv_file, draws_of(identity)))[: data.limit]


def load_labels(data: DataConfig) -> Catalog:
    """Read the labels of the configured set.

    Raises:
        FkpError: The set is missing, or a CSV has a wrong shape, no header or one of another order, a value that is not a finite
            number, a label that is no face (`face_shape.first_fault`), a file name of another form, or a frame listed twice; or
            `data.backend=stream` and the set is not packed.
    """
    shift, scheme = label_bias(data), load_scheme(data.scheme)
    if data.backend == "stream" or packs.is_packed(place_of(data)):
        return _load_packed(packs.open_packed(place_of(data)), shift, scheme)
    root = root_of(data)
    if label_set.is_label_set(root):
        return _load_set(label_set.read(root), shift, scheme)
    tables, points, digest = [], [], hashlib.sha256()
    for part in CSV_FILES:
        path = root / f"{part}_frames_keypoints.csv"
        files, part_points, content, own = _read_csv(path, scheme if data.source == "folder" else IBUG68)
        digest.update(content)
        names = pd.DataFrame([_parse_name(name, path) for name in files], columns=["identity", "video", "frame"])
        tables.append(names.assign(part=part, file=files))
        points.append(in_scheme(part_points, own, scheme, path))
    # The cast holds the columns to whole numbers when one of the two files labels nothing.
    table = pd.concat(tables, ignore_index=True).astype({"video": int, "frame": int})
    if not len(table):
        raise FkpError(f"{root}: the two CSV files label no frame: add one row a frame")
    table["fold"] = table["identity"].map(fold_of)
    double = pd.DataFrame({"part": table["part"], "file": table["file"].map(one_spelling)}).duplicated()
    if double.any():
        raise FkpError(f"{root}: frame {table['file'][double].iat[0]} is labelled twice in one file: keep one row")
    return Catalog(root, table[_TABLE], np.concatenate(points), shift, digest.hexdigest(), scheme)


def _load_set(labels: LabelSet, shift: np.ndarray, scheme: Scheme) -> Catalog:
    flag = None if labels.scheme.name in built_in() else labels.root / label_set.SCHEME
    points_px = in_scheme(labels.points_px, labels.scheme, scheme, labels.root, flag)
    if fault := first_fault(points_px, scheme):
        raise FkpError(f"{labels.root / label_set.LABELS}, face {fault[0] + 1}: {fault[1]}")
    own = labels.scheme.landmarks
    weights = None if labels.weights is None else labels.weights[:, [own.index(name) for name in scheme.landmarks]]
    return Catalog(labels.root, table_of(labels), points_px, shift, labels.digest, scheme, imported=True, weights=weights)


def table_of(labels: LabelSet) -> pd.DataFrame:
    """`Catalog.table` of an imported set."""
    # Where the labels name no validation subset it is a fold of those that train.
    train = "train" if "val" in labels.subsets else "training"
    part = ["training" if subset is None else train if subset == "train" else subset for subset in labels.subsets]
    table = pd.DataFrame({"part": part, "file": labels.images, "identity": [one_spelling(group) for group in labels.groups]})
    return table.assign(video=0, frame=np.arange(len(labels)), fold=table["identity"].map(fold_of))[_TABLE]


def _load_packed(packed: PackedSet, shift: np.ndarray, scheme: Scheme) -> Catalog:
    shards = [packed.read_columns(number, packs.LABELS) for number in range(len(packed.shards))]
    labels = pa.concat_tables(shards).combine_chunks()
    index = np.array([(number, index) for number, shard in enumerate(packed.shards) for index in range(shard.frames)])
    # In the order of the set that was packed.
    order = np.argsort(labels.column("row").to_numpy())
    flat = labels.column("points_raw_px").combine_chunks().flatten().to_numpy()
    points = in_scheme(flat.reshape(-1, len(packed.scheme), 2), packed.scheme, scheme, packed.place)
    table = labels.select(_TABLE).to_pandas().astype(_WHOLE).iloc[order].reset_index(drop=True)
    sha256 = np.array(labels.column("sha256").to_pylist(), dtype=object)[order]
    return Catalog(Path(packed.place), table, points[order], shift, packed.labels_digest, scheme, packed, index[order], sha256)


def root_of(data: DataConfig) -> Path:
    """The folder of the configured set.

    Raises:
        FkpError: `data.source=folder` without `data.root`, or the set lies in a bucket.
    """
    place = place_of(data)
    if storage.is_uri(place):
        raise FkpError(f"{place} is no folder: a set in a bucket must be a packed one, see `fkp data pack`")
    return Path(place)


def place_of(data: DataConfig) -> str:
    """The folder or the address of the configured set.

    Raises:
        FkpError: `data.source=folder` without `data.root`.
    """
    if data.root is not None:
        return data.root
    if data.source == "folder":
        raise FkpError("data.source=folder needs data.root: name the folder of your set")
    return f"data/{data.source}" + (PACKED_SUFFIX if data.backend == "stream" else "")


def label_bias(data: DataConfig) -> np.ndarray:
    """(2,) float32: the constant error of the configured set's labels."""
    return np.array(data.label_bias_px if data.label_bias_px is not None else LABEL_BIAS_PX[with_source(data).source], np.float32)


def with_source(data: DataConfig) -> DataConfig:
    """The same settings, with the source `folder` where `data.root` is a set that was imported, whatever source was given."""
    imported = data.root is not None and label_set.is_label_set(data.root)
    return data.updated({"source": "folder"}) if imported and data.source != "folder" else data


def remove_label_bias(points_raw_px: np.ndarray, label_bias_px: np.ndarray) -> np.ndarray:
    """Take the labels' constant shift out. The only place that does; the only inverse is adding it back."""
    return points_raw_px - np.asarray(label_bias_px, np.float32)


def split_digest(catalog: Catalog, data: DataConfig) -> str:
    """Hex sha256 over the labels, their shift and the folds: figures compare only where this is equal."""
    chosen = faces_of(data)
    parts = [catalog.digest, catalog.label_bias_px.tolist(), chosen, *([data.scheme] if catalog.scheme != IBUG68 else [])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_frame(catalog: Catalog, row: int) -> tuple[images.Image, bytes]:
    """Decode one labelled frame and check its label against it; also return the file's bytes.

    Raises:
        FkpError: The frame is missing or broken, or see `check_label`.
    """
    data = catalog.read_bytes(row)
    return decode_frame(data, catalog.points_raw_px[row], str(catalog.path(row)), catalog.scheme), data


def decode_frame(data: bytes, points_raw_px: np.ndarray, name: str, scheme: Scheme) -> images.Image:
    """Decode a labelled frame and check its label against it.

    Raises:
        FkpError: The frame is broken, or see `check_label`.
    """
    frame = images.decode_image(data, f"frame {name}")
    check_label(points_raw_px, frame.shape[0], frame.shape[1], name, scheme)
    return frame


def check_label(points_px: np.ndarray, height: int, width: int, name: str, scheme: Scheme = IBUG68) -> None:
    """Accept points a little outside the frame (a face cut off by the border), refuse what neither trains nor can be measured.

    Raises:
        FkpError: A point lies further outside than `MAX_OUTSIDE` of the frame's longer side, all points lie on one line, so
            that the face has no size, or the two landmarks that its error is measured by coincide.
    """
    if (np.nanmax(points_px, axis=0) <= np.nanmin(points_px, axis=0)).any():
        raise FkpError(f"{name}: the label has no extent: correct or remove it")
    if not scheme.size_px(points_px) > 0:
        ends = " and ".join(scheme.landmarks[end].replace("_", " ") for end in scheme.between or ())
        raise FkpError(f"{name}: {ends} of the label coincide or are missing: correct or remove it")
    outside = np.nanmax(np.maximum(-points_px, points_px - np.array([width - 1, height - 1])))
    if outside > MAX_OUTSIDE * max(height, width):
        raise FkpError(f"{name}: a point lies {outside:.0f} px outside the {width} x {height} frame: correct or remove its label")


def in_scheme(points_px: np.ndarray, own: Scheme, scheme: Scheme, where: object, flag: object = None) -> np.ndarray:
    """(N, K', 2) points of a set in a scheme of its own to (N, K, 2) of the one that is asked for, by their names.

    Args:
        points_px: Of the set.
        own: Its scheme.
        scheme: What is asked for.
        where: Names the set in an error.
        flag: What names its scheme to `--data.scheme`; by default its name.

    Raises:
        FkpError: The set has not all of the landmarks: those that nobody has labelled cannot be learnt.
    """
    if missing := [name for name in scheme.landmarks if name not in own.landmarks]:
        told = flag if isinstance(flag, Path) else own.name
        raise FkpError(
            f"{where} is labelled in scheme {own.name}, which has no {missing[0]} of {scheme.name}: its own is --data.scheme {told}"
        )
    return scheme.convert(points_px, own)


def _read_csv(path: Path, scheme: Scheme) -> tuple[list[str], np.ndarray, bytes, Scheme]:
    try:
        content = path.read_bytes()
        table = pd.read_csv(path, skip_blank_lines=False)  # Or the line that an error names would not be the file's.
    except FileNotFoundError as error:
        raise FkpError(f"{path} is missing: `fkp data fetch` brings the set, `fkp data synth` makes one") from error
    except (OSError, ValueError) as error:
        raise FkpError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    # pandas makes an index of the first columns when the rows are longer than the header.
    columns = table.shape[1] + (0 if isinstance(table.index, pd.RangeIndex) or table.empty else table.index.nlevels)
    if columns == 1 + 2 * len(IBUG68) != 1 + 2 * len(scheme):  # As most sets are: the others name their scheme.
        scheme = IBUG68
    if columns != 1 + 2 * len(scheme):
        raise FkpError(f"{path} has {columns} columns: it needs a file name and {2 * len(scheme)} coordinates ({scheme.name})")
    _check_header(next(csv.reader(content.decode("utf-8-sig", "replace").splitlines()[:1])), path, len(scheme))
    table = table[table.notna().any(axis=1)]
    cells = table.iloc[:, 1:]
    points = cells.apply(pd.to_numeric, errors="coerce").to_numpy(np.float32, copy=True).reshape(-1, len(scheme), 2)
    # A word is no empty cell, and one empty cell is no missing point.
    missing = np.isnan(points).all(-1) & cells.isna().to_numpy().reshape(points.shape).all(-1)
    broken = table.index[~(np.isfinite(points).all(-1) | missing).all(-1)]
    if len(broken):
        raise FkpError(f"{path}, line {broken[0] + 2}: a coordinate is not a finite number: correct or remove the line")
    points = without_markers(points)
    if fault := first_fault(points, scheme):
        raise FkpError(f"{path}, line {table.index[fault[0]] + 2}: {fault[1]}")
    return [str(name) for name in table.iloc[:, 0]], points, content, scheme


def _check_header(names: list[str], path: Path, landmarks: int) -> None:
    """Refuse a file without a header, which would lose its first face, and one whose header tells another order."""
    if _FILE_NAME.fullmatch(names[0].strip()):
        raise FkpError(f"{path}, line 1: the header is missing, for this line labels {names[0]}: put one before it")
    axes = [match[1].lower() if (match := _AXIS.search(name)) else "" for name in names[1:]]
    numbers = [int(found[-1]) if (found := re.findall(r"\d+", name)) else -1 for name in names[1:]]
    if all(axes):
        ordered = axes == ["x", "y"] * landmarks
        ordered &= -1 in numbers or all(n == numbers[0] + place // 2 for place, n in enumerate(numbers))
    else:
        ordered = not all(name.strip().isdigit() for name in names[1:]) or numbers == list(range(numbers[0], numbers[0] + 2 * landmarks))
    if not ordered:
        told = ", ".join(names[1:5])
        raise FkpError(
            f"{path}, line 1: the header tells another order of the columns ({told}, ...): bring them into x0,y0,x1,y1 and so on"
        )


def without_markers(points: np.ndarray) -> np.ndarray:
    """The same (..., 2) points, NaN where both coordinates are a marker of a point that is not labelled, see `_MARKER`."""
    x, y = points[..., 0], points[..., 1]
    return np.where(((x == y) & ((x == 0) | (x == -1)) | (x <= _MARKER) & (y <= _MARKER))[..., None], points.dtype.type(np.nan), points)


def one_spelling(name: str) -> str:
    """The same name for all spellings that look the same, such as an e with an accent of its own or as one letter (Unicode NFC)."""
    return unicodedata.normalize("NFC", name)


def _parse_name(name: str, path: Path) -> dict[str, str | int]:
    match = _FILE_NAME.fullmatch(name)
    if match is None or "/" in name or "\\" in name:
        raise FkpError(f"{path}: file name {name!r} is not of the form <Identity>_<clip digit><frame digit>.jpg")
    return {"identity": one_spelling(match["identity"]), "video": int(match["video"]), "frame": int(match["frame"])}
