"""The LightningModule of a face detector."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from fkp.model.detection import DetectionNetwork
from fkp.model.detection_loss import detection_loss
from fkp.model.trained import Trained
from fkp.vision.detect.average_precision import average_precision
from fkp.vision.detect.candidates import Candidates, merge, one_scale
from fkp.vision.detect.cells import decode

#: Candidates below it are not looked at in validation: they change the average precision by nothing that can be seen.
_LEAST_SCORE = 0.05

#: Images, and for each one (M, 7, 2) shapes in pixels (integers at pixel centres) and (M,) whether they count: `fkp.data.scenes.Scenes`.
Batch = tuple[Tensor, list[Tensor], list[Tensor]]


class DetectionNet(Trained):
    """The network with its loss; validated by its average precision.

    Args:
        config: The run as plain JSON, `Config.model_dump(mode="json")`.

    Raises:
        FkpError: The architecture is unknown or makes no detector.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.network = DetectionNetwork(self.config)
        self._found: list[Candidates] = []
        self._truth: list[tuple[np.ndarray, np.ndarray]] = []

    def forward(self, images_u8: Tensor) -> Tensor:
        """See `DetectionNetwork.forward`."""
        told: Tensor = self.network(images_u8)
        return told

    def _loss(self, told: Tensor, batch: Batch) -> Tensor:
        images_u8, shapes, counted = batch
        return detection_loss(told, [of_image + 0.5 for of_image in shapes], counted, *images_u8.shape[-2:])

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        loss = self._loss(self(batch[0]), batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch[0]))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        told = self(batch[0])
        self.log("val_loss", self._loss(told, batch), sync_dist=True, batch_size=len(batch[0]))
        self._found += candidates(told, *batch[0].shape[-2:])
        self._truth += [(shapes.cpu().numpy(), counts.cpu().numpy()) for shapes, counts in zip(batch[1], batch[2], strict=True)]

    def on_validation_epoch_end(self) -> None:
        lack = 100 * (1 - average_precision(self._found, *zip(*self._truth, strict=True)))
        self._found, self._truth = [], []
        self.log(self.config.val_nme_key, lack, sync_dist=True)


def candidates(told: Tensor, height: int, width: int, least_score: float = _LEAST_SCORE) -> list[Candidates]:
    """What is found in each image, one of each face.

    Args:
        told: (N, A, 15), see `DetectionNetwork`.
        height: Of the images.
        width: Likewise.
        least_score: What a cell must tell to count.
    """
    return [merge(one_scale(decode(of_image, height, width, least_score))) for of_image in told.float().cpu().numpy()]
