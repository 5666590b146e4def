"""Files that come with the package: the models, settings of runs, the search space, Serve's settings, the real faces' manifest.

In a checkout they lie at its top, where people read and edit them; the wheel carries them in `fkp/_shipped` under the same names.
"""

from __future__ import annotations

from pathlib import Path

_IN_WHEEL = Path(__file__).with_name("_shipped")
_FILES = (
    Path("data/manifest.csv"),
    Path("data/sfhq_manifest.csv.gz"),
    Path("data/congress_manifest.csv.gz"),
    Path("data/backgrounds_manifest.csv.gz"),
    Path("tune/space.yaml"),
    Path("serve/config.yaml"),
)
_ROOT = _IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """Where a shipped file or folder lies, such as `saved_models/champion`; absolute."""
    return _ROOT / name


#: The bundle that is used where none is named.
DEFAULT_BUNDLE = shipped("saved_models/champion")


def here_or_shipped(path: str | Path) -> Path:
    """A path as it was named; where the working folder has nothing there, the shipped file or folder of that very name.

    So `--config configs/ytfaces.yaml` and `--bundle saved_models/tiny` mean the same in every folder.
    """
    named = Path(path)
    if named.is_absolute() or named.exists() or not named.parts or ".." in named.parts:
        return named
    own = _ROOT / named
    return own if (named.parts[0] in ("configs", "saved_models") or named in _FILES) and own.exists() else named
