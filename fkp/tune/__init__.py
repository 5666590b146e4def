"""Hyperparameter search: Ray Tune over the same Config that one training takes."""
