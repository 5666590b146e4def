"""Faces of nobody, drawn with their landmarks."""
