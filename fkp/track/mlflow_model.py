"""A bundle's ONNX network as an MLflow model."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fkp.errors import FkpError
from fkp.track.trouble import deleted, unusable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
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
    from mlflow.models import Model

    run = _find_run(client, uri, run_id)
    artifacts = hold_bundle(client, bundle, run_id)
    # Not mlflow.onnx.log_model: it knows no run but the active one, and to activate a run is to change its status. Nor
    # may MLflow make the model itself: it would put it into the default experiment, in the working folder.
    model = client.create_logged_model(run.info.experiment_id, MODEL, run_id, params=run.data.params)
    mlflow.set_tracking_uri(uri)
    Model.log(artifact_path=None, name=MODEL, flavor=mlflow.onnx, run_id=run_id, model_id=model.model_id, **_content(bundle))
    return model.model_id, artifacts


def _content(bundle: Bundle) -> dict[str, Any]:
    """What an MLflow model of a bundle consists of."""
    import onnx
    import onnxruntime

    return {
        "onnx_model": onnx.load(bundle.onnx_path),
        "signature": signature(bundle),
        "input_example": input_example(bundle),
        # Named, because MLflow would start a process and load the model to find them.
        "pip_requirements": [f"onnx=={onnx.__version__}", f"onnxruntime=={onnxruntime.__version__}"],
        "onnx_execution_providers": ["CPUExecutionProvider"],
        "save_as_external_data": False,
    }


def mend(client: MlflowClient, uri: str, bundle: Bundle, address: str, source: str) -> bool:
    """Put back what the store has lost of a registered bundle.

    Args:
        client: Talks to the store.
        uri: Of the store.
        bundle: The very bundle that was registered.
        address: Of the bundle, `runs:/<run>/bundle`.
        source: Of the MLflow model: `models:/<id>`, or something else, which is left alone.

    Returns:
        Whether all is there; False where the run itself is gone, or the model.

    Raises:
        FkpError: The run is deleted.
    """
    from mlflow.exceptions import MlflowException

    run_id, _, folder = address.removeprefix("runs:/").partition("/")
    try:
        run = client.get_run(run_id)
        model = client.get_logged_model(source.removeprefix("models:/")) if source.startswith("models:/m-") else None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    _check_active(uri, run)
    if not _holds(client, bundle, run_id, folder):
        client.log_artifacts(run_id, str(bundle.path), folder)
    if model is not None and not {"MLmodel", "model.onnx"} <= {entry.path for entry in client.list_logged_model_artifacts(model.model_id)}:
        _write_again(client, bundle, model)
    return True


def _write_again(client: MlflowClient, bundle: Bundle, model: LoggedModel) -> None:
    """Write the files of an MLflow model; `Model.log` would also add it to its run, which has it already."""
    import mlflow.onnx
    from mlflow.models import Model

    about = Model(model.artifact_location, run_id=model.source_run_id, model_uuid=model.model_id, model_id=model.model_id)
    with tempfile.TemporaryDirectory() as folder:
        mlflow.onnx.save_model(path=f"{folder}/model", mlflow_model=about, **_content(bundle))
        client.log_model_artifacts(model.model_id, f"{folder}/model")


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


def _find_run(client: MlflowClient, uri: str, run_id: str) -> Run:
    """Find the run.

    Raises:
        FkpError: There is no such run, or it is deleted.
    """
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise FkpError(f"there is no MLflow run {run_id}: name the run that made the bundle, or none") from error
        raise
    _check_active(uri, run)
    return run


def _check_active(uri: str, run: Run) -> None:
    if run.info.lifecycle_stage == "deleted":
        raise unusable(uri, deleted(uri, "run", run.info.run_id))


def hold_bundle(client: MlflowClient, bundle: Bundle, run_id: str) -> str:
    """Make sure that a run holds this very bundle, and return its address.

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


def _holds(client: MlflowClient, bundle: Bundle, run_id: str, folder: str) -> bool:
    """Whether a run holds every file of a bundle, byte for byte."""
    from mlflow.exceptions import MlflowException

    from fkp.bundle import open_bundle

    with tempfile.TemporaryDirectory() as draft:
        try:
            return open_bundle(client.download_artifacts(run_id, folder, draft)).digest == bundle.digest
        except FkpError:  # It is damaged.
            return False
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
