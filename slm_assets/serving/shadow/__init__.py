"""A version that answers beside what serves: in a process of its own, at low priority, and nobody waits for it."""
