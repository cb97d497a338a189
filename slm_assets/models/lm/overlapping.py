"""Whether one value may be written by two nodes: then `oneOf` has two branches that it meets."""

from __future__ import annotations

from slm_assets.models.lm.nodes import Either, Fields, Items, Listed, Node, Number, Text

_STARTS = {'"': Text, "[": Items, "{": Fields}


def overlap(one: Node, other: Node) -> bool:
    """Whether two nodes may write the same value; wrong only towards yes."""
    if isinstance(one, Either):
        return any(overlap(branch, other) for branch in one.branches)
    if isinstance(other, Either):
        return overlap(other, one)
    if isinstance(one, Listed):
        return _listed(one, other)
    if isinstance(other, Listed):
        return _listed(other, one)
    if isinstance(one, Fields) and isinstance(other, Fields):
        return _objects(one, other)
    return type(one) is type(other)


def _listed(listed: Listed, other: Node) -> bool:
    if isinstance(other, Listed):
        return bool(set(listed.texts) & set(other.texts))
    return any(isinstance(other, _STARTS.get(text[0], Number)) for text in listed.texts)


def _objects(one: Fields, other: Fields) -> bool:
    """Not where a key that one needs is none of the other's, or a key they share cannot have one value for both."""
    left, right = ({own.key: own for own in node.fields} for node in (one, other))
    alone = [key for key in left.keys() ^ right.keys() if (left.get(key) or right[key]).required]
    both = [key for key in left.keys() & right.keys() if left[key].required or right[key].required]
    return not alone and all(overlap(left[key].node, right[key].node) for key in both)
