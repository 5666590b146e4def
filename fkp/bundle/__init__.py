"""A trained model as a folder: written, opened, exported to ONNX, and the reference for drift that it carries."""

from fkp.bundle.bundle import (
    FACE_BOXES,
    FILES,
    JOINT_ERRORS,
    OPTIONAL,
    Bundle,
    load_network,
    open_bundle,
    update_bundle,
    write_bundle,
)
from fkp.common.checksums import SUMS

__all__ = ["FACE_BOXES", "FILES", "JOINT_ERRORS", "OPTIONAL", "SUMS", "Bundle"]
__all__ += ["load_network", "open_bundle", "update_bundle", "write_bundle"]
