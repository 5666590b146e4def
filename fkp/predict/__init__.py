"""Pictures, folders and videos to faces with a bundle: `Predictor` in Python, `python -m fkp.predict` as a command."""

from fkp.predict.predictor import DEFAULT_BUNDLE, Face, Predictor, face_of_answer, fits, of_both_looks, second_box

__all__ = ["DEFAULT_BUNDLE", "Face", "Predictor", "face_of_answer", "fits", "of_both_looks", "second_box"]
