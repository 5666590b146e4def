"""Labelled faces: bring, make, check and read them, and feed them to training."""
