"""A model measured: metrics, reports, what training saw of the test faces, the reference for drift."""
