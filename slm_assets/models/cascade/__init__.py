"""Rungs that answer in turn: the cheap one where it is sure, the next one where it is not."""
