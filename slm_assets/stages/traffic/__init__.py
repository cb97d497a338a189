"""Live traffic on disk: the form of a turn, the segments of the service, and what was read of them."""
