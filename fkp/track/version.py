"""A registered version of the model: what its tags say, and how two of them compare."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fkp.compat import OLD_TAGS
from fkp.errors import FkpError

if TYPE_CHECKING:
    from fkp.bundle import Bundle

#: Tag of a version: when it was promoted, in nanoseconds since 1970.
MARK_TAG = "fkp.promoted_at_ns"
BUNDLE_TAG = "bundle_artifacts"
DIGEST_TAG = "bundle_digest"
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
        return _number(self._tag(_VAL)[1])

    @property
    def test_nme_pct(self) -> float | None:
        """Test subset of the identity split, corrected labels."""
        return _number(self._tag(_TEST)[1] or self._tag(OLD_TAGS[_TEST])[1])

    def _tag(self, prefix: str) -> tuple[str, str | None]:
        return next(((tag, text) for tag, text in self.tags.items() if tag.startswith(prefix) and tag.endswith("_pct")), (prefix, None))

    @property
    def split_digest(self) -> str:
        """Which faces validated; empty where the bundle was not measured."""
        return self.tags.get("split_digest", "")

    @property
    def bundle_artifacts(self) -> str:
        """Where the whole bundle lies, `runs:/<run>/bundle`.

        Raises:
            FkpError: Something else than fkp made the version.
        """
        self.check_ours()
        return self.tags[BUNDLE_TAG]

    @property
    def digest(self) -> str:
        """Of the bundle; raises like `bundle_artifacts`."""
        self.check_ours()
        return self.tags[DIGEST_TAG]

    @property
    def ours(self) -> bool:
        """Whether fkp made it, with a bundle."""
        return DIGEST_TAG in self.tags and re.fullmatch(r"runs:/[^/]+/.+", self.tags.get(BUNDLE_TAG, "")) is not None

    def check_ours(self, remedy: str = "name another one, `fkp track list` shows them") -> None:
        """Refuse a version that something else than fkp made: it can be neither served nor compared.

        Raises:
            FkpError: It is one.
        """
        if not self.ours:
            raise FkpError(f"version {self.number} was not registered by fkp and holds no bundle of it: {remedy}")

    @property
    def marked(self) -> bool:
        """Whether it was promoted and not withdrawn."""
        return self.ours and MARK_TAG in self.tags

    @property
    def broken_figure(self) -> str | None:
        """What is wrong with the tag that decides, and what mends it; None where nothing is."""
        tag, text = self._tag(_VAL)
        if text is None or self.val_nme_pct is not None:
            return None
        return (
            f"the tag {tag} of version {self.number} is {text!r} and no figure: `fkp track register BUNDLE` with its bundle writes it "
            "anew, or `fkp track rollback` withdraws the promotion"
        )

    @property
    def broken_mark(self) -> str | None:
        """The same of the tag that says when it was promoted."""
        text = self.tags.get(MARK_TAG)
        if not self.marked or text is None or _time_ns(text) is not None:
            return None
        return (
            f"the tag {MARK_TAG} of version {self.number} is {text!r} and no time: `fkp track promote {self.number}` writes it anew, "
            "or `fkp track rollback` withdraws the promotion"
        )

    @property
    def rank(self) -> tuple[float, int, int]:
        """The least of the marked versions is the champion."""
        nme = self.val_nme_pct
        return (math.inf if nme is None else nme, -(_time_ns(self.tags.get(MARK_TAG, "")) or 0), -self.number)


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
    tags = {DIGEST_TAG: bundle.digest, "arch": bundle.config.model.arch, "scheme": bundle.config.scheme.name}
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


def _time_ns(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else None
