"""Base and adapted model side by side on labelled faces, along the path on which images are predicted, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fkp.adapt.faces import shown
from fkp.bundle import Bundle, drift
from fkp.config import Config
from fkp.data.face_shape import box_of_label
from fkp.data.labels import Catalog, read_frame
from fkp.evaluation.evaluate import Evaluation
from fkp.evaluation.leakage import Leakage
from fkp.evaluation.metrics import nme_pct
from fkp.model.network import Network
from fkp.predict import Predictor

_DRAWS = 2000


class _Session:
    """A network in this process, as `Predictor` wants it."""

    def __init__(self, network: Network) -> None:
        self._network = network.eval()

    @torch.inference_mode()
    def run(self, crops_u8: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points_px, scale_px = self._network(torch.from_numpy(crops_u8))
        return points_px.numpy(), scale_px.numpy()


class HeldOut(Evaluation):
    """An evaluation by cross-validation, or on one fold of it."""

    @property
    def title(self) -> str:
        """What was measured in a few words."""
        groups = len(set(self.identities))
        return f"{self.data.root}: {len(self)} faces of {groups} groups, each by a network that was not adapted to its group"


@dataclass(frozen=True)
class Measured:
    """Both models on the same faces.

    Attributes:
        after: The adapted model's answers.
        before_nme_pct: (N,) error of the base model's answers over the landmarks that it has; NaN for a face without any.
        after_nme_pct: (N,) error of the adapted model's over the same landmarks.
        groups: (N,) of each face.
        brightness: (N,) of its crop.
    """

    after: Evaluation
    before_nme_pct: np.ndarray
    after_nme_pct: np.ndarray
    groups: np.ndarray
    brightness: np.ndarray

    def reference(self) -> dict[str, object]:
        """See `evaluation.drift_reference.reference_histograms`."""
        boxes = box_of_label(self.after.truth_px(), self.after.scheme)
        ratios = [drift.error_ratio(*pair) for pair in zip(self.after.expected_error_px, boxes, strict=True)]
        values = {drift.ERROR_RATIO: ratios, drift.BRIGHTNESS: self.brightness.tolist()}
        figures = {name: {"bounds": list(drift.BOUNDS[name]), "counts": drift.count(name, found)} for name, found in values.items()}
        return {"subset": "val", "faces": len(self.after), "figures": figures}


def predictor_of(base: Bundle, network: Network, config: Config) -> Predictor:
    """A network that is no bundle yet, predicting as one."""
    return Predictor(replace(base, config=config), session=_Session(network))


def measure(
    catalog: Catalog, config: Config, rows: np.ndarray, base: Predictor, adapted: Callable[[int], Predictor], leakage: Leakage
) -> Measured:
    """Predict faces with both models; each image is decoded once.

    Args:
        catalog: The set.
        config: Of the adapted model.
        rows: (N,) which faces.
        base: The model of before.
        adapted: Place in `rows` -> the model of after, which has not seen the face's group.
        leakage: What is known of that.
    """
    scheme, bases = catalog.scheme, base.scheme
    before, points, errors, brightness = [], [], [], []
    for place, row in enumerate(shown(rows, "before and after")):
        frame, _ = read_frame(catalog, int(row))
        box_xyxy = box_of_label(catalog.points_px[row], scheme)
        predictor = adapted(place)
        (face,) = predictor(frame, [box_xyxy])
        (old,) = base(frame, [box_xyxy])
        before.append(scheme.convert(old.points_px, bases))
        points.append(face.points_px)
        errors.append(face.expected_error_px)
        brightness.append(drift.brightness(predictor.crop(box_xyxy).apply(frame, config.input.channels)))
    after = HeldOut(catalog, config.data, rows, np.stack(points), np.stack(errors), leakage)
    truth = after.truth_px().copy()
    shared = np.array(before)
    truth[~np.isfinite(shared)] = np.nan
    groups = catalog.table["identity"].to_numpy()[rows]
    pair = [_nme(found, truth, after) for found in (np.where(np.isfinite(shared), shared, 0), after.points_px)]
    return Measured(after, pair[0], pair[1], groups, np.array(brightness))


def _nme(points_px: np.ndarray, truth_px: np.ndarray, after: Evaluation) -> np.ndarray:
    """(N,) mean error of the labelled points in percent of the whole label's normaliser."""
    error = np.linalg.norm(points_px - truth_px, axis=-1)
    known = np.isfinite(error)
    mean = np.where(known, error, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)
    return np.asarray(100 * mean / after.scheme.size_px(after.truth_px()))


def interval(values: np.ndarray, groups: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of some faces' values, and the bounds of its 95 % interval: whole groups are drawn (bootstrap), for faces of one are alike."""
    known = np.isfinite(values)
    values, groups = values[known], groups[known]
    _, place = np.unique(groups.astype(str), return_inverse=True)
    sums, counts = np.bincount(place, values), np.bincount(place).astype(float)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (_DRAWS, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def mean_nme(evaluation: Evaluation) -> np.ndarray:
    """(N,) error of each face over all its landmarks."""
    return nme_pct(evaluation.points_px, evaluation.truth_px(), scheme=evaluation.scheme)


def texts(intervals: Sequence[tuple[float, float, float]]) -> list[str]:
    """Intervals in words."""
    return [f"{mean:.2f} % ({low:.2f} to {high:.2f})" for mean, low, high in intervals]
