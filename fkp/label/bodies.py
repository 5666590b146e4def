"""What the page sends: checked before it reaches the session."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: A coordinate that no photograph has; how far outside its frame a point may lie says `labels.MAX_OUTSIDE`.
_MOST_PX = 1e6

Coordinate = Annotated[float, Field(ge=-_MOST_PX, le=_MOST_PX, allow_inf_nan=False)]
Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Points(_Body):
    """Points that a person has set: number -> x, y and state, or null for one whose guess counts again."""

    version: int
    do: Literal["move", "place", "nudge", "state", "shape", "swap", "mirror", "forget", "accept"] = "move"
    points: dict[Annotated[int, Field(ge=0)], tuple[Coordinate, Coordinate, Literal["visible", "occluded", "missing"]] | None] = {}
    done: bool = False


class About(_Body):
    """What else is said of a face; only what is given changes."""

    version: int
    box: Box | None = None
    group: Annotated[str, Field(max_length=200)] | None = None
    done: bool | None = None
    removed: bool | None = None

    @model_validator(mode="after")
    def _whole(self) -> About:
        if self.box is not None:
            check_box(self.box)
        return self


class New(_Body):
    """A face that the model has missed."""

    photo: str
    box: Box

    @model_validator(mode="after")
    def _whole(self) -> New:
        check_box(self.box)
        return self


class Last(_Body):
    """The last command that the page knows of."""

    last: int


class Adapt(_Body):
    """How to adapt; nothing: all ways."""

    ways: list[Literal["map", "tune", "both"]] = []


def check_box(box: Box) -> None:
    """Refuse a box without area.

    Raises:
        ValueError: It is one.
    """
    x0, y0, x1, y1 = box
    if x1 - x0 < 2 or y1 - y0 < 2:
        raise ValueError("a box is at least two pixels wide and high: draw it from one corner to the other")
