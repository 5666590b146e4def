"""Versions of the model in MLflow's registry, and the alias of the one to serve.

A version is the bundle's ONNX network as an MLflow model (`models:/fkp@champion` loads with mlflow.onnx or pyfunc); its
tags hold the figures and say where the whole bundle lies:

- bundle_artifacts: `runs:/<run>/bundle`, the folder to download and to open with `fkp.bundle.open_bundle`
- bundle_digest, data_digest, split_digest, arch
- val_nme_<normaliser>_pct, and test_<split>_<truth>_nme_<normaliser>_pct: reported, they decide nothing

The alias follows from marks: `promote` marks a version with the time, and the champion is the marked version with the
least validation NME, the newest mark where two are equal. So two promotions at once need no lock, which a server does
not offer: each sets the alias from the marks it reads and looks again afterwards, and the last to look sees both.

A version that something else has made, or an alias on one, is never promoted, compared or overwritten: `rollback` takes the
alias from it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fkp.errors import FkpError
from fkp.track.mlflow_model import log_model, mend
from fkp.track.store import open_client, tracking_uri
from fkp.track.trouble import store_errors, without_password
from fkp.track.version import BUNDLE_TAG, MARK_TAG, Version, best_marked, describe, objection

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from fkp.bundle import Bundle

MODEL_NAME = "fkp"
ALIAS = "champion"

#: Codes of a database that another writer has just held.
_BUSY_CODES = ("TEMPORARILY_UNAVAILABLE", "BAD_REQUEST", "RESOURCE_CONFLICT", "ABORTED")
_ATTEMPTS = 8

T = TypeVar("T")


class NotBetter(FkpError):
    """A promotion that the figures do not allow; the message says both."""


class Registry:
    """The versions of one model in one store.

    Args:
        name: Of the registered model.
        uri: Of the store; by default `tracking_uri()`.

    Raises:
        FkpError: The store cannot be reached or used. So do all methods.
    """

    def __init__(self, name: str = MODEL_NAME, uri: str | None = None) -> None:
        self.name = name
        self.uri = uri or tracking_uri()
        self.client: MlflowClient = open_client(self.uri)

    def register(self, bundle_path: str | Path, run_id: str) -> Version:
        """Log a bundle's network as an MLflow model of a run and register it.

        The bundle itself is added to the run's artifacts where the run does not hold it yet. A bundle that is registered
        already is not registered again, see `registered`.

        Args:
            bundle_path: The folder.
            run_id: The run that made it.

        Raises:
            FkpError: The bundle is broken, there is no such run, or the run holds another bundle.
        """
        from fkp.bundle import open_bundle

        bundle = open_bundle(bundle_path)
        if version := self.registered(bundle):
            return version
        with store_errors(self.uri):
            model_id, artifacts = log_model(self.client, self.uri, bundle, run_id)
            self._make_registered_model()
            tags = {BUNDLE_TAG: artifacts, **describe(bundle)}
            source = f"models:/{model_id}"
            # A server asks for the id by itself, too, and refuses a version whose source is not of that model.
            made = self._patiently(lambda: self.client.create_model_version(self.name, source, run_id, tags, model_id=model_id))
        return self.version(int(made.version))

    def registered(self, bundle: Bundle) -> Version | None:
        """The version of a bundle, with whatever the store has lost of its files and its tags put back; None where there is none.

        Raises:
            FkpError: Its run is deleted.
        """
        for version in self.versions():
            if not version.ours or version.digest != bundle.digest:
                continue
            number = str(version.number)
            with store_errors(self.uri):
                source = self.client.get_model_version(self.name, number).source
                if not mend(self.client, self.uri, bundle, version.bundle_artifacts, source or ""):
                    continue
                for tag, value in describe(bundle).items():
                    if version.tags.get(tag) != value:
                        self.client.set_model_version_tag(self.name, number, tag, value)
            return self.version(version.number)
        return None

    def fetch(self, version: Version, folder: Path) -> Path:
        """Download a version's bundle into a folder and return its place.

        Raises:
            FkpError: The version holds none, or the store has lost it.
        """
        from mlflow.exceptions import MlflowException

        run_id, _, path = version.bundle_artifacts.removeprefix("runs:/").partition("/")
        with store_errors(self.uri):
            try:
                return Path(self.client.download_artifacts(run_id, path, str(folder)))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise self.lost(version, "gone") from error

    def lost(self, version: Version, how: str) -> FkpError:
        """The sentence for a bundle of which the store has not all."""
        return FkpError(
            f"the bundle of version {version.number} of {self.name} is {how} in the MLflow store {without_password(self.uri)} "
            f"({version.bundle_artifacts}): `fkp track register BUNDLE` with the same bundle puts it back"
        )

    def versions(self) -> list[Version]:
        """All versions, the newest first; empty where nothing is registered."""
        found: list[Any] = []
        token: str | None = None
        with store_errors(self.uri):
            while True:
                page = self.client.search_model_versions(f"name='{self.name}'", page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        made = [Version(int(entry.version), dict(entry.tags), entry.creation_timestamp, entry.run_id or "") for entry in found]
        return sorted(made, key=lambda version: -version.number)

    def version(self, number: int) -> Version:
        """One version.

        Raises:
            FkpError: It is not registered.
        """
        versions = self.versions()
        for version in versions:
            if version.number == number:
                return version
        known = ", ".join(str(version.number) for version in reversed(versions))
        where = f"{self.name} in {without_password(self.uri)}"
        raise FkpError(f"there is no version {number} of {where}: " + (f"there is {known}" if known else self._other_names()))

    def champion(self) -> Version:
        """The version that the alias names.

        Raises:
            FkpError: There is none, or fkp has not made it.
        """
        number = self.champion_number()
        if number is not None:
            version = self.version(number)
            version.check_ours(f"`fkp track rollback` takes the alias {ALIAS} from it")
            return version
        if not self.versions():
            raise FkpError(f"nothing is the champion of {self.name} in {without_password(self.uri)}: {self._other_names()}")
        raise FkpError(f"no version of {self.name} is the champion: `fkp track promote VERSION`")

    def _other_names(self) -> str:
        """That nothing is registered, and what is: somebody may have renamed the model."""
        with store_errors(self.uri):
            names = sorted(model.name for model in self.client.search_registered_models(max_results=5))
        return "nothing is registered" + (f" by this name, but {', '.join(names)}: name one of them" if names else "")

    def champion_number(self) -> int | None:
        """The version that the alias names; None where there is no alias."""
        from mlflow.exceptions import MlflowException

        with store_errors(self.uri):
            try:
                aliases = self.client.get_registered_model(self.name).aliases
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return None
                raise
        return int(aliases[ALIAS]) if ALIAS in aliases else None

    def promote(self, number: int, force: bool = False) -> Version:
        """Make a version the champion if its validation NME is not worse than the present champion's.

        Args:
            number: The version.
            force: Promote it all the same; the promotions that stand in its way are withdrawn.

        Returns:
            The champion: the version, or a better one that was promoted at the same moment.

        Raises:
            NotBetter: It is worse, or the two cannot be compared. Not even `force` overrules a champion that fkp has not made or
                whose tags something else has changed: the message says what mends that.
            FkpError: There is no such version, or fkp has not made it.
        """
        candidate = self.version(number)
        candidate.check_ours()
        if candidate.broken_figure:
            raise FkpError(candidate.broken_figure)
        holder = next((version for version in self.versions() if version.number == self.champion_number()), None)
        if holder is not None and not holder.ours:
            raise NotBetter(
                f"version {number} is not promoted over version {holder.number}, which has the alias {ALIAS} and was not registered by "
                "fkp: `fkp track rollback` takes the alias from it"
            )
        rivals = sorted(
            (version for version in self.versions() if version.marked and version.number != number), key=lambda version: version.rank
        )
        for rival in rivals:
            if broken := rival.broken_figure or rival.broken_mark:
                raise NotBetter(f"version {number} is not promoted: {broken}")
        reason = objection(candidate, rivals[0] if rivals else None)
        if reason and not force:
            raise NotBetter(reason)
        marked = Version(number, {**candidate.tags, MARK_TAG: str(time.time_ns())}, candidate.registered_ms, candidate.run_id)
        # The mark comes first: broken off after it, the champion is still the one of before.
        with store_errors(self.uri):
            self._patiently(lambda: self.client.set_model_version_tag(self.name, str(number), MARK_TAG, marked.tags[MARK_TAG]))
        for rival in rivals:
            if rival.rank < marked.rank:
                self._withdraw(rival)
        champion = self._settle()
        assert champion is not None
        return champion

    def rollback(self) -> Version | None:
        """Withdraw the champion's promotion; the best of the other promoted versions is the champion again.

        A rollback that was broken off before the alias was set is only finished. What is not as fkp wrote it goes first, and alone: from
        a version of another make the alias is taken, promotions whose tags something else has changed are withdrawn.

        Returns:
            The champion; None where there is none any more.

        Raises:
            FkpError: No other version is promoted.
        """
        versions, number = self.versions(), self.champion_number()
        promoted = sorted((version for version in versions if version.marked), key=lambda version: version.rank)
        broken = [version for version in promoted if version.broken_figure or version.broken_mark]
        if broken or any(version.number == number and not version.ours for version in versions):
            for version in broken:
                self._withdraw(version)
            return self._settle()
        if not promoted:
            raise FkpError(f"no version of {self.name} is promoted: there is nothing to roll back")
        unfinished = number != promoted[0].number
        if len(promoted) == 1 and not unfinished:
            raise FkpError(f"version {promoted[0].number} is the only promoted version of {self.name}: promote another one instead")
        if not unfinished:
            self._withdraw(promoted[0])
        return self._settle()

    def _settle(self) -> Version | None:
        """Set the alias from the marks until both agree after the last write."""
        while True:
            best = best_marked(self.versions())
            if self.champion_number() != (best.number if best else None):
                self._set_alias(best)
            # Read the marks first: a promotion that marks after this sets the alias after this, too.
            best = best_marked(self.versions())
            if self.champion_number() == (best.number if best else None):
                return best

    def _set_alias(self, best: Version | None) -> None:
        with store_errors(self.uri):
            if best is None:
                self._patiently(lambda: self.client.delete_registered_model_alias(self.name, ALIAS))
            else:
                self._patiently(lambda: self.client.set_registered_model_alias(self.name, ALIAS, str(best.number)))

    def _withdraw(self, version: Version) -> None:
        with store_errors(self.uri):
            self._patiently(lambda: self.client.delete_model_version_tag(self.name, str(version.number), MARK_TAG))

    def _make_registered_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
                raise

    def _patiently(self, call: Callable[[], T]) -> T:
        """Repeat a call that loses against another writer of the same row."""
        from mlflow.exceptions import MlflowException

        for attempt in range(_ATTEMPTS):
            try:
                return call()
            except MlflowException as error:
                if error.error_code not in _BUSY_CODES or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0, 0.05 * 2**attempt))
        raise AssertionError("unreachable")
