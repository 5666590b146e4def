"""What a network takes over from another."""

from __future__ import annotations

import pytest
import torch

from fkp.config import build_config
from fkp.errors import FkpError
from fkp.model.network import Network
from fkp.model.transfer import transfer
from fkp.scheme import IBUG68, load_scheme

SMALL = {"input.size_px": 64, "model": {"width": 8, "depth": 1}}


def network(seed: int, **changes: object) -> Network:
    torch.manual_seed(seed)
    return Network(build_config(SMALL, {key.replace("__", "."): value for key, value in changes.items()})).eval()


@pytest.mark.parametrize("head", ["heatmap", "direct"])
def test_under_the_same_scheme_it_is_the_same_network(head: str) -> None:
    old, new = network(0, model__head=head), network(1, model__head=head)
    assert transfer(new, old.state_dict(), IBUG68, IBUG68) == []
    crops = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    for theirs, ours in zip(old(crops), new(crops), strict=True):
        torch.testing.assert_close(theirs, ours)


@pytest.mark.parametrize("head", ["heatmap", "direct"])
@pytest.mark.parametrize(("name", "fresh"), [("wflw98", 30), ("ibug51", 0), ("cofw29", 10)])
def test_landmarks_of_the_same_name_are_where_they_were(head: str, name: str, fresh: int) -> None:
    scheme = load_scheme(name)
    old, new = network(0, model__head=head), network(1, model__head=head, data__scheme=name)
    assert len(transfer(new, old.state_dict(), IBUG68, scheme)) == fresh
    crops = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    (theirs, theirs_scale), (ours, ours_scale) = old(crops), new(crops)
    places = scheme.places_in(IBUG68)
    torch.testing.assert_close(ours[:, list(places)], theirs[:, list(places.values())])
    torch.testing.assert_close(ours_scale[:, list(places)], theirs_scale[:, list(places.values())])


@pytest.mark.parametrize("changes", [{"model__width": 16}, {"model__depth": 2}, {"model__arch": "slim"}, {"model__head": "direct"}])
def test_another_architecture_is_refused_and_changes_nothing(changes: dict[str, object]) -> None:
    old, new = network(0), network(1, **changes)
    before = {name: value.clone() for name, value in new.state_dict().items()}
    with pytest.raises(FkpError, match=r"^the model to begin from is of another architecture \(.* differs\)$"):
        transfer(new, old.state_dict(), IBUG68, IBUG68)
    for name, value in new.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_a_map_of_the_shape_goes_along_where_there_is_one_on_both_sides() -> None:
    old = network(0, data__scheme="cofw29", model__base_scheme="ibug68")
    assert old.shape_map is not None
    old.shape_map.offset.fill_(0.1)
    same = network(1, data__scheme="cofw29", model__base_scheme="ibug68")
    transfer(same, old.state_dict(), IBUG68, IBUG68)
    crops = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(same(crops), old(crops))
    without = network(1)
    transfer(without, old.state_dict(), IBUG68, IBUG68)
    torch.testing.assert_close(without(crops)[0], old.inner(crops)[0])
    again = network(1, data__scheme="cofw29", model__base_scheme="ibug68")
    transfer(again, without.state_dict(), IBUG68, IBUG68)
    assert again.shape_map is not None
    assert not again.shape_map.offset.any()
