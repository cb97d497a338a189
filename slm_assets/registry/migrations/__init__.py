"""The registry's migrations: `versions/rNNNN_*.py`, in the order of their numbers."""
