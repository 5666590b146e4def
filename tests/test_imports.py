"""What importing costs, and what it keeps from happening. Who may import whom, `make lint` checks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fkp.predict import DEFAULT_BUNDLE

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
        ("import fkp.config, fkp.scheme, fkp.errors", HEAVY),
        ("import fkp.vision.crop, fkp.vision.draw, fkp.vision.detect", ("torch", "ray", "mlflow", "pytorch_lightning", "pandas")),
        ("import fkp.predict", ("torch", "ray", "mlflow", "pytorch_lightning", "pandas")),
        ("import fkp; fkp.Predictor", ("torch", "ray", "mlflow", "pytorch_lightning", "pandas")),
        ("import fkp, fkp.train.loop, fkp.predict.torch_session; fkp.Net", ("ray", "mlflow", "onnxruntime")),
    ],
)
@pytest.mark.over_5s("torch is imported anew")
def test_importing_stays_light(statement: str, absent: tuple[str, ...]) -> None:
    found = imported_by(statement)
    assert "fkp" in found
    assert not found & set(absent)


def test_no_library_reports_home(tmp_path: Path) -> None:
    """ONNX Runtime would make an identifier of this machine and a database of what to send, both in the home folder."""
    names = ("ORT_DISABLE_TELEMETRY", "MLFLOW_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED", "CI")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    code = (
        "import fkp, numpy, os;"
        f"fkp.Predictor({str(DEFAULT_BUNDLE)!r})(numpy.zeros((64, 64, 3), numpy.uint8));"
        f"print([os.environ.get(name) for name in {names[:3]}])"
    )
    places = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env={**environment, **places}, capture_output=True, text=True, check=True)
    assert done.stdout == "['1', 'true', '0']\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_unknown_names_are_refused() -> None:
    import fkp

    with pytest.raises(AttributeError, match="module 'fkp' has no attribute 'Nett'"):
        _ = fkp.Nett
    assert fkp.__version__
    assert set(fkp.__all__) == {"Net", "Predictor", "__version__", "read_image"}
