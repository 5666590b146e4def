"""Formats of labels that people have: one file a format, which registers it."""

from fkp.data.formats import coco, csv_table, cvat, frames, imglab, label_studio, own, pts, wflw  # noqa: F401  They register.
from fkp.data.formats.registry import FORMATS, Face, Format, recognise
from fkp.data.formats.source import Source

__all__ = ["FORMATS", "Face", "Format", "Source", "recognise"]
