"""Pictures, folders and videos to faces with a bundle: `Predictor` in Python, `python -m fkp.predict` as a command."""

from fkp.predict.predictor import DEFAULT_BUNDLE, Face, Predictor, fits, second_box

__all__ = ["DEFAULT_BUNDLE", "Face", "Predictor", "fits", "second_box"]
