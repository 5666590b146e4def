"""An endpoint in the place of a predictor: what its points are is told, not guessed."""

from __future__ import annotations

import json

import pytest

from fkp.predict.http_client import _scheme
from fkp.scheme import built_in, load_scheme
from fkp.serve.http.page_landmarks import page_landmarks

OWN = {
    "name": "own",
    "landmarks": ["a", "b", "c", "d"],
    "pairs": [["a", "b"]],
    "regions": {"top": ["a", "b"], "rest": ["c", "d"]},
    "groups": {"some": ["a", "d"]},
    "edges": [["a", "c", "b"]],
    "normaliser": {"name": "width", "between": ["a", "b"], "about": "the width"},
    "yaw": ["a", "b", "c"],
}


@pytest.mark.parametrize("name", [*built_in(), "own", "plain"])
def test_the_scheme_of_an_endpoint(name: str) -> None:
    text = {"own": json.dumps(OWN), "plain": '{"name": "plain", "landmarks": 20}'}.get(name, name)
    scheme = load_scheme(text)
    assert _scheme(json.loads(json.dumps(page_landmarks(scheme)))) == scheme


def test_another_scheme_of_a_built_in_s_name_is_the_endpoint_s_own() -> None:
    told = json.loads(json.dumps(page_landmarks(load_scheme(json.dumps({**OWN, "name": "five"})))))
    assert _scheme(told).landmarks == ("a", "b", "c", "d")
