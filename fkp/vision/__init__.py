"""From bytes to a square crop and back: decode, crop, augment, draw. Nothing else in fkp resizes or crops."""
