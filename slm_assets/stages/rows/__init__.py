"""The row work of the stages `dataset` and `label`: reading, near-duplicates, splitting, fan-out."""
