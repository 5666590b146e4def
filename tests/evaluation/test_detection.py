"""Scores and lengths of a detector, chosen on the validation scenes."""

from __future__ import annotations

import numpy as np

from fkp.evaluation.detection import Seen, choose_scores, from_length
from fkp.vision.detect.candidates import Candidates


def seen(*faces: tuple[float, float], false: tuple[float, ...] = ()) -> Seen:
    """One image a face of (length, score), 0 for one that is missed; and images with a false detection each."""
    found, shapes = [], []
    for length, score in faces:
        box = np.concatenate([[(0, 0), (length, length)], np.zeros((5, 2))])[None]
        shapes.append(box)
        found.append(Candidates(box[: int(score > 0)], np.array([score])[: int(score > 0)]))
    for score in false:
        shapes.append(np.zeros((0, 7, 2)))
        found.append(Candidates(np.concatenate([[(0, 0), (30, 30)], np.zeros((5, 2))])[None], np.array([score])))
    return Seen(found, shapes, [np.ones(len(of), bool) for of in shapes])


def test_the_score_parts_right_from_wrong_and_doubt_reaches_lower() -> None:
    alone = seen(*[(60.0, 0.9)] * 9, (20.0, 0.0), (32.0, 0.2))
    told = choose_scores(seen(*[(40.0, 0.8)] * 10, (40.0, 0.35), *[(12.0, 0.2)] * 5, false=(0.4,)), alone)
    assert (told["sure_px"], told["least_px"]) == (48, 24)
    assert told["min_score"] == 0.34, "a face is worth as much as one that is none, and the short ones do not choose"
    assert told["doubt_score"] == 0.1 and told["tile_score"] > told["min_score"]
    many = choose_scores(seen(*[(40.0, 0.8)] * 4, false=(0.3,) * 40), alone)
    assert many["doubt_score"] > 0.3, "not everything is worth a closer look"


def test_sure_is_a_length_from_which_on_all_are_found() -> None:
    lengths = np.array([9.0, 11, 15, 18, 30, 50, 120])
    assert from_length(lengths, np.array([0, 0, 0, 0.9, 0.9, 0.9, 0.9])) == 16
    assert from_length(lengths, np.array([0.9, 0.9, 0.9, 0.9, 0, 0.9, 0.9])) == 32
    assert from_length(lengths, np.full(7, 0.9)) == 7
