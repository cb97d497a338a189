"""`recipe: auto`: the rungs of the ladder from below, until one is good enough on the validation part."""
