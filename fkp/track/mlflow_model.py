"""A bundle's ONNX network as an MLflow model."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkp.errors import FkpError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.models import ModelSignature

    from fkp.bundle import Bundle

#: Artifact folder of a run that holds its bundle.
BUNDLE_FOLDER = "bundle"
#: Name of the MLflow model in its run.
MODEL = "model"
#: Faces in the input example. One would do for a network whose batch size has come out fixed; two show that it is free.
_EXAMPLE_FACES = 2


def log_model(client: MlflowClient, uri: str, bundle: Bundle, run_id: str) -> tuple[str, str]:
    """Log a bundle's network, with signature and input example, as a model of a run, and the bundle beside it.

    Args:
        client: Talks to the store.
        uri: Of the store; it becomes this process's own, because MLflow's models have no other way to know it.
        bundle: The bundle.
        run_id: The run.

    Returns:
        The model's id, and the address of the bundle, `runs:/<run>/bundle`.

    Raises:
        FkpError: There is no such run, or it holds another bundle.
    """
    import mlflow
    import mlflow.onnx
    import onnx
    import onnxruntime
    from mlflow.models import Model

    run = _find_run(client, run_id)
    artifacts = _hold_bundle(client, bundle, run_id)
    mlflow.set_tracking_uri(uri)
    # Not mlflow.onnx.log_model: it knows no run but the active one, and to activate a run is to change its status. Nor
    # may MLflow make the model itself: it would put it into the default experiment, in the working folder.
    model = client.create_logged_model(run.info.experiment_id, MODEL, run_id, params=run.data.params)
    Model.log(
        artifact_path=None,
        name=MODEL,
        flavor=mlflow.onnx,
        run_id=run_id,
        model_id=model.model_id,
        onnx_model=onnx.load(bundle.onnx_path),
        signature=signature(bundle),
        input_example=input_example(bundle),
        # Named, because MLflow would start a process and load the model to find them.
        pip_requirements=[f"onnx=={onnx.__version__}", f"onnxruntime=={onnxruntime.__version__}"],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    return model.model_id, artifacts


def signature(bundle: Bundle) -> ModelSignature:
    """uint8 crops in; points in their pixels and the scale of their errors out. Any number of faces."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    side, channels, landmarks = bundle.config.input.size_px, bundle.config.input.channels, len(bundle.config.scheme)
    crops = TensorSpec(np.dtype("uint8"), (-1, channels, side, side), "crops_u8")
    points = TensorSpec(np.dtype("float32"), (-1, landmarks, 2), "points_px")
    scale = TensorSpec(np.dtype("float32"), (-1, landmarks), "scale_px")
    return ModelSignature(Schema([crops]), Schema([points, scale]))


def input_example(bundle: Bundle) -> dict[str, Any]:
    """Two crops of even grey."""
    import numpy as np

    side, channels = bundle.config.input.size_px, bundle.config.input.channels
    return {"crops_u8": np.full((_EXAMPLE_FACES, channels, side, side), 128, np.uint8)}


def _find_run(client: MlflowClient, run_id: str) -> Run:
    """Find the run.

    Raises:
        FkpError: There is no such run.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise FkpError(f"there is no MLflow run {run_id}: name the run that made the bundle, or none") from error
        raise


def _hold_bundle(client: MlflowClient, bundle: Bundle, run_id: str) -> str:
    """Make sure that a run holds this very bundle.

    Raises:
        FkpError: It holds another bundle.
    """
    from fkp.bundle import SUMS

    if not any(Path(entry.path).name == SUMS for entry in client.list_artifacts(run_id, BUNDLE_FOLDER)):
        client.log_artifacts(run_id, str(bundle.path), BUNDLE_FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        held = Path(client.download_artifacts(run_id, f"{BUNDLE_FOLDER}/{SUMS}", folder)).read_bytes()
    if hashlib.sha256(held).hexdigest() != bundle.digest:
        raise FkpError(f"MLflow run {run_id} holds another bundle than {bundle.path}: register it without naming a run")
    return f"runs:/{run_id}/{BUNDLE_FOLDER}"
