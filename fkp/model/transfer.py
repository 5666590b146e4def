"""Weights of a trained network for another one: all of them, or under another landmark scheme all but the landmarks' own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fkp.errors import FkpError
from fkp.model.network import Network
from fkp.scheme import Scheme

_MAP = "shape_map."


def transfer(network: Network, weights: Mapping[str, Tensor], source: Scheme, target: Scheme) -> list[str]:
    """Take over what a network of the same architecture has learnt.

    Trunk and pyramid are taken as they are, and of what the head has for each landmark the landmarks of the same name.

    Args:
        network: Changed in place.
        weights: `state_dict` of the other one.
        source: Landmarks of that one's head.
        target: Landmarks of this one's head.

    Returns:
        Names of the landmarks that begin from nothing.

    Raises:
        FkpError: The two are not of one architecture; nothing is changed.
    """
    rows = {f"head.{name}": count for name, count in network.head.landmark_rows().items()}
    places = target.places_in(source)
    state = dict(network.state_dict())
    # A map of the shape is taken from a network that has one by one that has one; else each is as it is.
    weights = {name: value for name, value in weights.items() if not name.startswith(_MAP) or name in state}
    weights |= {name: value for name, value in state.items() if name.startswith(_MAP) and name not in weights}
    if different := sorted(
        name
        for name in state.keys() | weights.keys()
        if name not in state
        or name not in weights
        or (name not in rows and state[name].shape != weights[name].shape)
        or (name in rows and (state[name].shape[1:] != weights[name].shape[1:] or len(weights[name]) != rows[name] * len(source)))
    ):
        raise FkpError(f"the model to begin from is of another architecture ({different[0]} differs)")
    taken = {}
    for name, theirs in weights.items():
        if name not in rows:
            taken[name] = theirs
            continue
        mine = state[name].clone().unflatten(0, (len(target), rows[name]))
        mine[list(places)] = theirs.unflatten(0, (len(source), rows[name]))[list(places.values())]
        taken[name] = mine.flatten(0, 1)
    with torch.no_grad():
        network.load_state_dict(taken)
    return [name for place, name in enumerate(target.landmarks) if place not in places]
