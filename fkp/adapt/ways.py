"""The ways to adapt a model, and the choice between them by cross-validation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import torch

from fkp.adapt.faces import Faces
from fkp.adapt.finetune import Recipe, finetune
from fkp.adapt.ridge import PENALTIES, fit_map, looks, put_map
from fkp.config import Config
from fkp.evaluation.metrics import nme_pct
from fkp.model.network import Network
from fkp.model.shape_map import ShapeMap
from fkp.train.ancestor import Ancestor

#: map: correct the shape of the model's answers. tune: train the model further. both: correct, then train through the map.
Way = Literal["map", "tune", "both"]
WAYS: tuple[Way, ...] = get_args(Way)
#: What is tried where nobody says. `tune` alone was never better than `both` and takes as long.
TRIED: tuple[Way, ...] = ("map", "both")
#: Parts of the way from the weights before the fine-tuning to those after it; cross-validation chooses.
BLENDS = (0.25, 0.5, 0.75, 1.0)


@dataclass
class Adapter:
    """Makes networks from the base model and labelled faces.

    Attributes:
        ancestor: The base model.
        base: Its network.
        config: Of what comes out, with a map of the shape.
        recipe: Of the fine-tuning.
        seed: Of it.
        penalty: Of the map, see `choose_penalty`.
    """

    ancestor: Ancestor
    base: Network
    config: Config
    recipe: Recipe
    seed: int
    penalty: float = PENALTIES[1]
    _looks: dict[bytes, np.ndarray] = field(default_factory=dict)

    def config_of(self, way: Way) -> Config:
        """The run of what a way makes."""
        return self.config if way != "tune" else self.config.updated({"model.base_scheme": None})

    def adapt(self, way: Way, faces: Faces, about: str, blend: float = 1.0) -> Network:
        """A network adapted to faces, in evaluation mode.

        Args:
            way: How.
            faces: To what.
            about: Names the progress bar.
            blend: How far to go from the weights before the fine-tuning to those after it, see `blended`.
        """
        start, trained = self.ends(way, faces, about)
        return blended(start, trained, blend)

    def ends(self, way: Way, faces: Faces, about: str) -> tuple[Network, Network]:
        """The network before and after the fine-tuning; for a map alone twice the same."""
        config = self.config_of(way)
        torch.manual_seed(self.seed)  # For the landmarks that begin from nothing.
        network = Network(config).eval()
        self.ancestor.begin(network, config)
        if way != "tune":
            put_map(network, self._map(faces, self.penalty))
        return network, network if way == "map" else finetune(copy.deepcopy(network), config, faces, self.recipe, self.seed, about)

    def choose_penalty(self, faces: Faces, folds: np.ndarray) -> float:
        """The penalty of the map whose cross-validated error is least; keeps it."""
        self.penalty = min(PENALTIES, key=lambda penalty: self._map_error(faces, folds, penalty))
        return self.penalty

    def _map_error(self, faces: Faces, folds: np.ndarray, penalty: float) -> float:
        errors = []
        for fold in np.unique(folds):
            held = faces[folds == fold]
            fitted = self._map(faces[folds != fold], penalty)
            points = torch.from_numpy(self._looks_at(held)[0])
            found, _ = fitted(points, torch.ones(points.shape[:2]))
            errors.append(nme_pct(found.numpy(), held.plain_px, scheme=self.config.scheme))
        return float(np.concatenate(errors).mean())

    def _map(self, faces: Faces, penalty: float) -> ShapeMap:
        size_px = self.config.input.size_px
        schemes = self.config.inner_scheme, self.config.scheme
        return fit_map(self._looks_at(faces), faces.plain_px, *schemes, size_px, penalty, faces.weights)

    def _looks_at(self, faces: Faces) -> np.ndarray:
        """(2, N, K', 2) what the base's head answers; each face is looked at once."""
        missing = [place for place, row in enumerate(faces.rows) if row.tobytes() not in self._looks]
        if missing:
            answers = looks(self.base, faces.plain_u8[missing])
            self._looks |= {faces.rows[place].tobytes(): answers[:, at] for at, place in enumerate(missing)}
        return np.stack([self._looks[row.tobytes()] for row in faces.rows], axis=1)


@dataclass(frozen=True)
class Trial:
    """A way, tried on held-out faces.

    Attributes:
        way: Which.
        blend: Which of `BLENDS` is best.
        nme_pct: (N,) error of each face by a network that was not adapted to its group; NaN where none was tried on it.
        networks: Fold -> that network.
    """

    way: Way
    blend: float
    nme_pct: np.ndarray
    networks: dict[int, Network]

    @property
    def mean_nme_pct(self) -> float:
        """Over the faces that it was tried on."""
        return float(np.nanmean(self.nme_pct))


def try_ways(adapter: Adapter, faces: Faces, folds: np.ndarray, held: Sequence[int], ways: Sequence[Way]) -> list[Trial]:
    """Try each way: adapt on all folds but one, measure on that one.

    Args:
        adapter: Makes the networks; its penalty is chosen.
        faces: All that may be used.
        folds: (N,) of each.
        held: The folds to hold out, one after the other.
        ways: Which to try.

    Returns:
        The trials, the best first.
    """
    trials = []
    for way in ways:
        ends = {fold: adapter.ends(way, faces[folds != fold], f"{way}, fold {fold + 1}") for fold in held}
        tried = []
        for blend in BLENDS[-1:] if way == "map" else BLENDS:
            errors = np.full(len(faces), np.nan)
            networks = {fold: blended(*pair, blend) for fold, pair in ends.items()}
            for fold, network in networks.items():
                unseen = faces[folds == fold]
                errors[folds == fold] = nme_pct(answers(network, unseen)[0], unseen.plain_px, scheme=adapter.config.scheme)
            tried.append(Trial(way, blend, errors, networks))
        trials.append(min(tried, key=lambda trial: trial.mean_nme_pct))
    return sorted(trials, key=lambda trial: trial.mean_nme_pct)


def blended(start: Network, trained: Network, blend: float) -> Network:
    """A network of weights between those of two, in evaluation mode; 0 is the first, 1 the second.

    Few faces move a network further than they can justify, and half of the way is often better than all of it and as good as the mean
    of both answers (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
    """
    network = copy.deepcopy(trained)
    before, after = start.state_dict(), trained.state_dict()
    network.load_state_dict(
        {name: torch.lerp(before[name], value, blend) if value.is_floating_point() else value for name, value in after.items()}
    )
    return network.eval()


@torch.inference_mode()
def answers(network: Network, faces: Faces, batch: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """(N, K, 2) landmarks and (N, K) scales of a network, in pixels of the plain crops."""
    network.eval()
    found = [network(torch.from_numpy(faces.plain_u8[first : first + batch])) for first in range(0, len(faces), batch)]
    points, scales = zip(*found, strict=True)
    return torch.cat(points).numpy(), torch.cat(scales).numpy()


def scale_factor(trial: Trial, faces: Faces, folds: np.ndarray) -> float:
    """What the stated scales of a way must be multiplied by, for the stated errors of held-out faces to be as large as their errors."""
    errors, stated = [], []
    for fold, network in trial.networks.items():
        held = faces[folds == fold]
        points, scale = answers(network, held)
        error = np.linalg.norm(points - held.plain_px, axis=-1)
        known = np.isfinite(error)
        errors.append(error[known])
        stated.append(2 * scale[known])
    return float(np.concatenate(errors).mean() / np.concatenate(stated).mean())
