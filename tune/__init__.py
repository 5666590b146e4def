"""What a user runs and edits: search.py and space.yaml. The code is `fkp.tune`."""
