"""Questions over versions: what there is, how numbers moved, what differs between two, what came from what."""
