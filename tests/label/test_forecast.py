"""What more labels would bring: against curves that are known, and where a model is as sure as a person."""

from __future__ import annotations

import numpy as np
import pytest

from fkp.label.forecast import forecast


def test_without_a_label_it_says_what_the_model_states() -> None:
    found = forecast([2.0, 3.0, 4.0])
    assert found.now_pct == pytest.approx(3.0)
    assert not found.enough
    errors = [pct for _, pct in found.after]
    assert errors == sorted(errors, reverse=True)
    assert 0.5 * 3.0 < errors[-1] < 3.0
    assert found.text.startswith("expected error 3.0 %; 10 more faces: about ")


def test_corrections_tell_how_large_errors_are_with_these_labels_though_the_labelled_faces_are_the_hard_ones() -> None:
    """Errors are twice the stated ones; the labelled faces have 6 % where the others have 2."""
    found = forecast(np.full(100, 2.0), corrected=[(6.0, 12.0)] * 40)
    assert found.now_pct == pytest.approx(4.0, rel=0.05)
    once = forecast(np.full(100, 2.0), corrected=[(2.0, 4.0)])
    assert 2.0 < once.now_pct < 3.0, "one face tells little"


@pytest.mark.parametrize(("floor", "knee"), [(1.0, 10), (2.5, 30), (3.0, 100), (3.9, 20)])
def test_it_goes_on_with_the_curve_of_the_adaptations(floor: float, knee: float) -> None:
    def error(faces: int) -> float:
        return float(floor + (5 - floor) * np.sqrt(knee / (faces + knee)))

    history = [(faces, error(faces)) for faces in (0, 12, 25, 50)]
    found = forecast(np.full(50, error(50)), history=history, more=(50, 150))
    assert [pct for _, pct in found.after] == pytest.approx([error(100), error(200)], rel=0.05)


def test_faces_that_the_model_has_not_seen_yet_count_for_the_next_adaptation() -> None:
    history = [(0, 5.0), (25, 4.0)]
    seen, unseen = (forecast([4.0] * 9, corrected=[(4.0, 4.0)] * faces, history=history, more=(10,)) for faces in (0, 25))
    assert unseen.now_pct == pytest.approx(seen.now_pct)
    assert unseen.after[0][1] < seen.after[0][1]


def test_an_error_that_rose_or_fell_beyond_all_curves_is_foretold_all_the_same() -> None:
    for history in ([(10, 1.0), (20, 9.0)], [(10, 9.0), (20, 0.1)]):
        after = forecast([2.0], history=history).after
        assert all(0 < pct <= 2.0 for _, pct in after)


def test_it_is_enough_where_a_person_is_no_nearer_to_himself() -> None:
    assert forecast([1.4], twice_pct=[1.5, 1.7]).enough
    assert not forecast([1.8], twice_pct=[1.5, 1.7]).enough
    assert "1.6 %" in forecast([1.4], twice_pct=[1.5, 1.7]).text
    assert not forecast([0.1]).enough, "nobody has said how sure a person is"


def test_all_faces_may_be_labelled() -> None:
    assert forecast([], corrected=[(2.0, 3.0)] * 50).now_pct == pytest.approx(3.0, rel=0.03)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"expected_pct": []}, "no face"),
        ({"expected_pct": [np.nan]}, "not finite"),
        ({"expected_pct": [1.0], "corrected": [(1.0, -1.0)]}, "negative"),
        ({"expected_pct": [1.0], "history": [(20, 1.0), (10, 1.0)]}, "does not grow"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, list[float]], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        forecast(**given)  # type: ignore[arg-type]
