"""A bundle measured on the labelled faces it was not trained on, against both truths.

One path: the frame through `vision.image`, the box of the label without its shift, and from there the Predictor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from fkp.config import DataConfig
from fkp.errors import FkpError
from fkp.evaluation import metrics
from fkp.evaluation.leakage import Leakage, leakage
from fkp.evaluation.metrics import TRUTHS, Truth, region_key
from fkp.scheme import Scheme, load_scheme

if TYPE_CHECKING:
    from fkp.bundle import Bundle
    from fkp.data.labels import Catalog
    from fkp.predict import Face
    from fkp.vision.image import Image

#: The subsets of a split that can be measured. Metrics of "val" choose; those of "test" are reported and decide nothing.
Subset = Literal["test", "val"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)
SPLITS: tuple[str, ...] = get_args(DataConfig.model_fields["split"].annotation)

#: Levels, in percent, whose coverage stands in the tables.
LEVELS_PCT = (68, 95)

#: Parts of the faces by `metrics.turn` of the truth: name -> least, and the next one's least.
POSES = {"from the front": (0.0, 0.1), "turned": (0.1, 0.2), "turned far": (0.2, np.inf)}

#: Of fewer faces there is no worst twentieth.
_LEAST_FACES = 20

_SUMMARY_ROWS = {"auc_08_pct": "AUC@8 % (of 100)", "failure_08_pct": "failure % at 8 %", "failure_10_pct": "failure % at 10 %"}
_DOUBT_ROW = {"auroc_worst5_pct": "AUROC of the expected error for the worst 5 % of faces"}

#: Key in a bundle's metrics.json of what `metrics.error_radii` found on its validation faces.
ERROR_RADII = "error_radii"


class FacePredictor(Protocol):
    """What is evaluated: a `Predictor`, or whatever answers like one."""

    def __call__(self, image: Image, boxes_xyxy: Sequence[np.ndarray], /) -> list[Face]:
        """Return one face a box."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Predictions on one subset of one split.

    Attributes:
        catalog: The labelled set.
        data: Which split and folds.
        rows: (N,) rows of the catalog.
        points_px: (N, K, 2) float32, predicted, in pixels of the frames.
        expected_error_px: (N, K) float32, predicted, in pixels of the frames.
        leakage: What of these faces was seen in training.
        subset: "test", or "val": the faces the checkpoint was chosen by.
        radii: What the bundle states of its errors, see `metrics.error_radii`; None: its density alone.
    """

    catalog: Catalog
    data: DataConfig
    rows: np.ndarray
    points_px: np.ndarray
    expected_error_px: np.ndarray
    leakage: Leakage
    subset: Subset = "test"
    radii: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def scheme(self) -> Scheme:
        """What the landmarks are."""
        return load_scheme(self.data.scheme)

    @property
    def files(self) -> list[str]:
        """File name of each face's frame."""
        return self.catalog.table["file"].iloc[self.rows].tolist()

    @property
    def identities(self) -> list[str]:
        """Person of each face."""
        return self.catalog.table["identity"].iloc[self.rows].tolist()

    @property
    def title(self) -> str:
        """The split, its size and its source in a few words."""
        if self.subset == "val":
            whose = "" if self.data.split == "identity" else " of the training CSV file"
            share = "" if self.data.val_share == 1 else f"a share of {self.data.val_share:g} of the "
            fold = f", validation subset ({share}persons of fold {self.data.val_fold}{whose})"
        else:
            fold = f" (persons of fold {self.data.test_fold})" if self.data.split == "identity" else " (the test CSV file)"
        limit = f", cut to the first {self.data.limit}" if self.data.limit else ""
        return f"{self.data.split} split{fold}: {len(self)} faces of {len(set(self.identities))} persons, {self.data.source}{limit}"

    def truth_px(self, truth: Truth = "corrected") -> np.ndarray:
        """(N, K, 2) float32 labels: `raw` as they stand in the CSV files, `corrected` without their constant shift."""
        every = {"raw": self.catalog.points_raw_px, "corrected": self.catalog.points_px}[truth]
        return every[self.rows]

    def nme_pct(self, truth: Truth = "corrected") -> np.ndarray:
        """(N,) error of each face, see `metrics.nme_pct`."""
        return metrics.nme_pct(self.points_px, self.truth_px(truth), scheme=self.scheme)

    def coverage(self, levels: Sequence[float] | np.ndarray, truth: Truth = "corrected") -> np.ndarray:
        """(L,) observed fraction of points inside the radius of each stated level, see `metrics.coverage`."""
        return metrics.coverage(self.error_px(truth), self.expected_error_px, levels, self.radii)

    def error_px(self, truth: Truth = "corrected") -> np.ndarray:
        """(N, K) float64 distance of each point from its truth."""
        return metrics.point_error_px(self.points_px, self.truth_px(truth), self.scheme)

    def expected_nme_pct(self) -> np.ndarray:
        """(N,) mean expected error in percent of the predicted points' own normaliser: high for a doubtful face."""
        return 100 * self.expected_error_px.mean(1) / np.maximum(self.scheme.size_px(self.points_px), 1e-6)

    def metrics(self, truth: Truth = "corrected") -> dict[str, float]:
        """`metrics.summary` against one truth, `coverage_<level>_pct` for each of `LEVELS_PCT`, and `auroc_worst5_pct` of enough faces."""
        observed = self.coverage([level / 100 for level in LEVELS_PCT], truth)
        covered = {f"coverage_{level}_pct": 100 * float(fraction) for level, fraction in zip(LEVELS_PCT, observed, strict=True)}
        told = {}
        if len(self) >= _LEAST_FACES:
            told["auroc_worst5_pct"] = metrics.auroc_pct(self.expected_nme_pct(), self.nme_pct(truth))
        return {**metrics.summary(self.points_px, self.truth_px(truth), self.scheme), **covered, **told}

    def summary_rows(self) -> list[tuple[str, float, float]]:
        """Rows (label, against raw labels, against corrected labels) of the table over all points."""
        key = self.scheme.nme_key
        groups = {region_key(self.scheme, name): f"NME %, {_in_words(name)}" for name in self.scheme.groups}
        coverage = {f"coverage_{level}_pct": f"% of points in the stated {level} % radius" for level in LEVELS_PCT}
        return self._rows({key: "NME %", **groups, f"median_{key}": "median NME %", **_SUMMARY_ROWS, **coverage, **_DOUBT_ROW})

    def region_rows(self) -> list[tuple[str, float, float]]:
        """Rows like `summary_rows`, the NME of each region."""
        return self._rows({region_key(self.scheme, region): _in_words(region) for region in self.scheme.regions})

    def pose_rows(self) -> list[tuple[str, int, float, float]]:
        """Rows (pose, faces, NME against raw labels, against corrected labels); a pose that no face has is left out."""
        turned = metrics.turn(self.truth_px(), self.scheme)
        raw, corrected = self.nme_pct("raw"), self.nme_pct("corrected")
        chosen = {pose: (turned >= least) & (turned < end) for pose, (least, end) in POSES.items()}
        return [(pose, int(of.sum()), float(raw[of].mean()), float(corrected[of].mean())) for pose, of in chosen.items() if of.any()]

    def breakdown_rows(self) -> list[tuple[str, float, float]]:
        """Rows like `summary_rows`, the NME of each region and of the faces of each pose."""
        poses = [(f"{pose} ({faces} faces)", raw, plain) for pose, faces, raw, plain in self.pose_rows()]
        return [*self.region_rows(), *poses]

    def _rows(self, labels: dict[str, str]) -> list[tuple[str, float, float]]:
        raw, corrected = self.metrics("raw"), self.metrics("corrected")
        return [(label, raw[key], corrected[key]) for key, label in labels.items() if key in raw]


def _in_words(name: str) -> str:
    return "51 inner points" if name == "inner51" else name.replace("_", " ")


def evaluate(
    predictor: FacePredictor, catalog: Catalog, data: DataConfig, bundle: Bundle | None = None, subset: Subset = "test"
) -> Evaluation:
    """Predict every face of one subset of a split.

    Args:
        predictor: A `Predictor` or whatever answers like one.
        catalog: The labelled set.
        data: Says which split and which folds.
        bundle: What made the predictor; tells which of the faces were trained on.
        subset: "test", or "val".

    Raises:
        FkpError: The subset is empty, a frame is missing or broken, a label cannot be used, or an answer is not finite.
    """
    rows = catalog.rows(subset, data)
    if not len(rows):
        raise FkpError(f"the {subset} subset of the {data.split} split of {catalog.root} is empty: choose another split")
    truth_px = catalog.points_px
    faces = [_predict(predictor, catalog, row, truth_px[row]) for row in rows]
    return Evaluation(
        catalog=catalog,
        data=data,
        rows=rows,
        points_px=np.stack([face.points_px for face in faces]),
        expected_error_px=np.stack([face.expected_error_px for face in faces]),
        leakage=leakage(bundle, catalog, data, subset),
        subset=subset,
        radii=None if bundle is None else bundle.metrics.get(ERROR_RADII),
    )


def to_json(evaluations: Sequence[Evaluation], bundle: Bundle) -> dict[str, Any]:
    """Content of metrics.json: for each split its size, its leakage and the metrics against both truths."""
    return {
        "model": bundle.digest,
        "normaliser": bundle.config.scheme.normaliser_text,
        "splits": {
            evaluation.data.split: {
                "subset": evaluation.subset,
                "source": evaluation.data.source,
                "labels_sha256": evaluation.catalog.digest,
                "label_bias_px": evaluation.catalog.label_bias_px.tolist(),
                "faces": len(evaluation),
                "persons": len(set(evaluation.identities)),
                "leakage": asdict(evaluation.leakage),
                **{truth: evaluation.metrics(truth) for truth in TRUTHS},
                "poses": {pose: {"faces": faces, "raw": raw, "corrected": plain} for pose, faces, raw, plain in evaluation.pose_rows()},
            }
            for evaluation in evaluations
        },
    }


def format_table(evaluation: Evaluation) -> str:
    """One split as text for the terminal."""
    shift = evaluation.catalog.label_bias_px
    wide, left, right = 40, len(TRUTHS["raw"]), len(TRUTHS["corrected"])
    lines = [
        evaluation.title,
        f"normaliser: {evaluation.scheme.normaliser_text}; label bias: ({shift[0]:g}, {shift[1]:g}) px",
        evaluation.leakage.note,
        f"{'':{wide}}  {TRUTHS['raw']}  {TRUTHS['corrected']}",
    ]
    lines += [f"{label:{wide}}  {raw:{left}.2f}  {plain:{right}.2f}" for label, raw, plain in evaluation.summary_rows()]
    lines += [f"{f'NME %, {label}':{wide}}  {raw:{left}.2f}  {plain:{right}.2f}" for label, raw, plain in evaluation.breakdown_rows()]
    return "\n".join(lines)


def _predict(predictor: FacePredictor, catalog: Catalog, row: int, truth_px: np.ndarray) -> Face:
    from fkp.data.face_shape import box_of_label
    from fkp.data.labels import read_frame

    path = catalog.path(row)
    frame, _ = read_frame(catalog, row)
    (face,) = predictor(frame, [box_of_label(truth_px, catalog.scheme)])
    if not (np.isfinite(face.points_px).all() and np.isfinite(face.expected_error_px).all()):
        raise FkpError(f"{path}: the model's answer is not finite: its training has diverged, train it again")
    return face
