"""What importing costs, and that the rooms of the house keep their order."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "ray", "mlflow", "pytorch_lightning", "cv2", "onnxruntime", "pandas")


def imported_by(statement: str) -> set[str]:
    """Top-level packages in memory after a statement, in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import fkp", HEAVY),
        ("import fkp.config, fkp.landmarks, fkp.errors", HEAVY),
        ("import fkp.vision.crop, fkp.vision.draw, fkp.vision.detect", ("torch", "ray", "mlflow", "pytorch_lightning", "pandas")),
        ("import fkp.predict", ("torch", "ray", "mlflow", "pytorch_lightning", "pandas")),
        ("import fkp; fkp.Predictor", ("torch", "ray", "mlflow", "pytorch_lightning", "pandas")),
        ("import fkp, fkp.data.dataset; fkp.Net", ("ray", "mlflow", "onnxruntime")),
    ],
)
def test_importing_stays_light(statement: str, absent: tuple[str, ...]) -> None:
    found = imported_by(statement)
    assert "fkp" in found
    assert not found & set(absent)


def test_unknown_names_are_refused() -> None:
    import fkp

    with pytest.raises(AttributeError, match="module 'fkp' has no attribute 'Nett'"):
        _ = fkp.Nett
    assert fkp.__version__
    assert set(fkp.__all__) == {"Net", "Predictor", "__version__"}


@pytest.mark.skipif(not (REPO / "fkp/demo.py").exists(), reason="the contracts name fkp/demo.py, which is not written yet")
def test_rooms_keep_their_order() -> None:
    program = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    assert program, "import-linter is missing: pip install -r requirements-dev.txt"
    done = subprocess.run([program, "--no-cache"], cwd=REPO, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
