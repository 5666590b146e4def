"""The model that a training begins from: `train.init`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fkp.config import Config
from fkp.errors import FkpError
from fkp.evaluation.leakage import ALL_TRAIN, DESCENT, EXTRA, LABELS_DIGEST
from fkp.track import ALIAS

if TYPE_CHECKING:
    from fkp.bundle import Bundle
    from fkp.model.network import Network


@dataclass(frozen=True)
class Ancestor:
    """A trained model as it travels to workers.

    Attributes:
        weights: Content of its weights.safetensors.
        config: Its own run, as plain JSON.
        descent: What a bundle that begins from it says of that, see `DESCENT`.
        address: Where it lies, whatever an alias points to later.
        path: Of the bundle on this machine.
    """

    weights: bytes
    config: dict[str, Any]
    descent: list[dict[str, Any]]
    address: str
    path: str

    def begin(self, network: Network, config: Config) -> None:
        """Let a network begin where this model ends.

        A map of its shape goes along to a network that has one, too; the head of another takes the map's place as it learns.

        Raises:
            FkpError: It is of another architecture.
        """
        from safetensors.torch import load

        from fkp.model.transfer import transfer

        own = Config.model_validate(self.config)
        differ = [
            f"{section}.{name} is {value} there and {getattr(getattr(config, section), name)} here"
            for section in ("model", "input")
            for name, value in getattr(own, section).model_dump().items()
            if name not in ("crop_scale", "dropout", "base_scheme") and value != getattr(getattr(config, section), name)
        ]
        if differ:
            raise FkpError(f"train.init={config.train.init}: {differ[0]}: begin with its own settings, `--config {self.path}/config.json`")
        transfer(network, load(self.weights), own.inner_scheme, config.inner_scheme)


def pinned(config: Config, ancestor: Ancestor | None) -> Config:
    """The same run, beginning from this very model wherever it is resumed, and whatever an alias points to by then."""
    return config if ancestor is None else config.updated({"train.init": ancestor.address})


def find_ancestor(config: Config, noted: str | None = None) -> Ancestor | None:
    """The model that `train.init` names, tried on this run's network; None where it names none.

    Args:
        config: The run.
        noted: The address that a run to be resumed began from; it counts for more than where an alias points today.

    Raises:
        FkpError: There is none, it cannot be read, or it is of another architecture.
    """
    from fkp.model.network import Network

    if config.train.init is None:
        return None
    alias = config.train.init.endswith(ALIAS)
    ancestor = read_ancestor(*open_ancestor(noted if noted and alias else config.train.init))
    ancestor.begin(Network(config), config)
    return ancestor


def read_ancestor(bundle: Bundle, address: str) -> Ancestor:
    """A bundle as an ancestor."""
    own = {
        "bundle": bundle.digest,
        "run_name": bundle.config.track.run_name,
        LABELS_DIGEST: bundle.metrics.get(LABELS_DIGEST),
        "data": bundle.config.data.model_dump(mode="json"),
        **{key: bundle.metrics[key] for key in (ALL_TRAIN, EXTRA) if bundle.metrics.get(key)},
    }
    config = bundle.config.model_dump(mode="json")
    return Ancestor(
        (bundle.path / "weights.safetensors").read_bytes(), config, [own, *bundle.metrics.get(DESCENT, [])], address, str(bundle.path)
    )


def open_ancestor(name: str) -> tuple[Bundle, str]:
    """The bundle that a setting names, and its address, which stays when an alias moves on.

    Args:
        name: A bundle's folder, models:/NAME/3, models:/NAME@champion, or champion.

    Raises:
        FkpError: There is none, or it cannot be read.
    """
    from fkp.bundle import open_bundle
    from fkp.track.download import download, registry_address

    asked = registry_address(name)
    if asked is None:
        bundle = open_bundle(name)
        return bundle, str(bundle.path.resolve())
    path, number = download(asked)
    return open_bundle(path), f"models:/{re.split('[/@]', asked)[1]}/{number}"  # The alias may point elsewhere tomorrow.
