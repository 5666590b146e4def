"""Training: a run folder that can be resumed, the Lightning loop, and Ray Train around it.

fkp train --config configs/ytfaces.yaml
"""
