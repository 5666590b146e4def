"""A registered version of the model: what its tags say, and how two of them compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fkp.compat import OLD_TAGS

if TYPE_CHECKING:
    from fkp.bundle import Bundle

#: Tag of a version: when it was promoted, in nanoseconds since 1970.
MARK_TAG = "fkp.promoted_at_ns"
BUNDLE_TAG = "bundle_artifacts"
#: Tags of the errors; between the prefix and `_pct` stands the normaliser of the landmark scheme.
_VAL = "val_nme_"
_TEST = "test_identity_corrected_nme_"


@dataclass(frozen=True)
class Version:
    """One registered model.

    Attributes:
        number: 1, 2, ...
        tags: See `fkp.track.registry`.
        registered_ms: When, in milliseconds since 1970.
        run_id: MLflow run that holds it.
    """

    number: int
    tags: dict[str, str]
    registered_ms: int
    run_id: str

    @property
    def val_nme_pct(self) -> float | None:
        """Figure that decides, measured through the bundle; None where the bundle was not measured."""
        return _number(self._of(_VAL))

    @property
    def test_nme_pct(self) -> float | None:
        """Test subset of the identity split, corrected labels."""
        return _number(self._of(_TEST) or self._of(OLD_TAGS[_TEST]))

    def _of(self, prefix: str) -> str | None:
        return next((value for tag, value in self.tags.items() if tag.startswith(prefix) and tag.endswith("_pct")), None)

    @property
    def split_digest(self) -> str:
        """Which faces validated; empty where the bundle was not measured."""
        return self.tags.get("split_digest", "")

    @property
    def bundle_artifacts(self) -> str:
        """Where the whole bundle lies, `runs:/<run>/bundle`."""
        return self.tags[BUNDLE_TAG]

    @property
    def marked(self) -> bool:
        """Whether it was promoted and not withdrawn."""
        return MARK_TAG in self.tags

    @property
    def rank(self) -> tuple[float, int, int]:
        """The least of the marked versions is the champion."""
        nme = self.val_nme_pct
        return (math.inf if nme is None else nme, -int(self.tags.get(MARK_TAG, 0)), -self.number)


def best_marked(versions: Sequence[Version]) -> Version | None:
    """The champion, as the marks say it."""
    return min((version for version in versions if version.marked), key=lambda version: version.rank, default=None)


def objection(candidate: Version, champion: Version | None) -> str | None:
    """Why a version must not take the champion's place, in one sentence."""
    for version in (candidate, champion):
        if version is not None and version.val_nme_pct is None:
            return (
                f"version {version.number} has no validation figure: register a bundle that `fkp train` measured, or promote with --force"
            )
    if champion is None:
        return None
    ours, theirs = candidate.val_nme_pct, champion.val_nme_pct
    assert ours is not None
    assert theirs is not None
    if candidate.split_digest != champion.split_digest:
        return (
            f"version {candidate.number} was validated on split {candidate.split_digest[:12]} ({ours:.3f} %) and the champion, version "
            f"{champion.number}, on split {champion.split_digest[:12]} ({theirs:.3f} %): figures of different faces do not compare; "
            "promote with --force if it is meant"
        )
    if theirs < ours:
        digits = 3 if f"{ours:.3f}" != f"{theirs:.3f}" else 9
        return (
            f"version {candidate.number} is worse than the champion, version {champion.number}: validation NME {ours:.{digits}f} % against "
            f"{theirs:.{digits}f} %; promote with --force if it is meant"
        )
    return None


def describe(bundle: Bundle) -> dict[str, str]:
    """What the registry says of a bundle."""
    key = bundle.config.scheme.nme_key
    tags = {"bundle_digest": bundle.digest, "arch": bundle.config.model.arch, "scheme": bundle.config.scheme.name}
    if "data_digest" in bundle.metrics:
        tags["data_digest"] = bundle.metrics["data_digest"]
    validation = bundle.metrics.get("validation")
    if validation:
        tags |= {f"val_{key}": repr(validation[key]), "split_digest": validation["split_digest"]}
    for split, figures in bundle.metrics.get("test", {}).items():
        for truth in ("raw", "corrected"):
            tags[f"test_{split}_{truth}_{key}"] = repr(figures[truth][key])
    return tags


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
