"""From a pydantic error to faults that a user can act on: place, found, expected, nearest right key."""

from __future__ import annotations

import difflib
import functools
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from slm_assets.canonical import Json
from slm_assets.domain import keys
from slm_assets.domain.documents import Document, Place, show
from slm_assets.errors import Fault

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], document: Document) -> tuple[M | None, list[Fault]]:
    """The document as the model, or what of it can be read on without its faulty keys, and every fault.

    The model is None where what is required is faulty or missing.
    """
    try:
        return model.model_validate(document.value), []
    except ValidationError as error:
        collector = _Collector(model, document)
        for detail in error.errors(include_url=False):
            collector.add(detail)
    faults = collector.list()
    for places in (collector.places - set(collector.branches), collector.places):
        try:
            return model.model_validate(_without(document.value, places)), faults
        except ValidationError:
            continue
    return None, faults


def _without(value: Json, places: set[Place], at: Place = ()) -> Json:
    """A copy without the keys at some places. List items stay, so that places keep their meaning."""
    if isinstance(value, dict):
        kept = {key: child for key, child in value.items() if (*at, key) not in places}
        return {key: _without(child, places, (*at, key)) for key, child in kept.items()}
    if isinstance(value, list):
        return [_without(child, places, (*at, index)) for index, child in enumerate(value)]
    return value


class _Collector:
    """Gathers the errors of one document; those of a union's branches become one fault."""

    def __init__(self, model: type[BaseModel], document: Document) -> None:
        self.model = model
        self.document = document
        self.places: set[Place] = set()
        self.paths: set[Place] = set()
        self.plain: list[Fault] = []
        self.branches: dict[Place, list[tuple[Place, Fault, str]]] = {}

    def add(self, detail: Any) -> None:
        place, union = self._place(detail["loc"])
        self.places.add(place)
        kind: str = detail["type"]
        expected = str(detail["msg"]).removeprefix("Input should be ")
        if kind == "extra_forbidden":
            fault = self._unknown_key(place)
        elif kind == "missing":
            fault = self.document.fault(place, "missing key", cure=self._about(place))
        elif kind in {"union_tag_invalid", "union_tag_not_found"}:
            fault = self._union_tag(place, detail)
        elif kind == "path":
            fault, union = self.document.fault(place, **detail["ctx"]), None
            self.paths.add(place)
        else:
            found = _found(place, detail.get("input"))
            fault = self.document.fault(place, "wrong value", found=found, expected=expected)
        if union is None:
            self.plain.append(fault)
        else:
            self.branches.setdefault(union, []).append((place, fault, expected))

    def list(self) -> list[Fault]:
        """All faults; of a union, those of the branch that got deepest, else one naming all branches."""
        faults = list(self.plain)
        for union, members in self.branches.items():
            if union in self.paths:
                continue
            deeper = [fault for place, fault, _ in members if len(place) > len(union)]
            if deeper:
                faults.extend(deeper)
                continue
            expected = " or ".join(dict.fromkeys(expected for _, _, expected in members))
            first = members[0][1]
            faults.append(self.document.fault(union, first.message, found=first.found, expected=expected))
        return list(dict.fromkeys(faults))

    def _place(self, loc: tuple[int | str, ...]) -> tuple[Place, Place | None]:
        """The place in the document: pydantic also names the union branches it tried, which are not in it."""
        value: Json = self.document.value
        place: list[str | int] = []
        union: Place | None = None
        for index, part in enumerate(loc):
            here = isinstance(value, dict) and isinstance(part, str) and part in value
            there = isinstance(value, list) and isinstance(part, int) and part < len(value)
            if here or there:
                value = value[part]
                place.append(part)
            elif index == len(loc) - 1 and keys.knows(self.model, (*place, part)):
                place.append(part)
            elif part != "[key]" and part not in {"rules", "python", "playbook"}:
                union = union if union is not None else tuple(place)
        return tuple(place), union

    def _unknown_key(self, place: Place) -> Fault:
        key = str(place[-1])
        replacement = keys.REPLACED.get(keys.pattern(self.model, place)) if self._is_config else None
        if replacement:
            return self.document.fault(place, "key not used here", found=show(key), cure=f"use {replacement}")
        siblings = keys.children(self.model, place[:-1])
        if close := difflib.get_close_matches(key, siblings, n=1):
            cure = f"did you mean {close[0]}?"
        elif elsewhere := keys.elsewhere(self.model, key):
            cure = f"it belongs at {elsewhere}"
        else:
            cure = f"keys here: {', '.join(siblings)}"
        return self.document.fault(place, "unknown key", found=show(key), cure=cure)

    def _union_tag(self, place: Place, detail: Any) -> Fault:
        context = detail.get("ctx", {})
        tag = str(context.get("discriminator", "")).strip("'")
        at = (*place, tag)
        expected = str(context.get("expected_tags", "a kind"))
        if "tag" not in context:
            return self.document.fault(at, "missing key", expected=expected or "rules, python or playbook")
        cure = keys.REPLACED.get(f"{keys.pattern(self.model, at)}={context['tag']}", "")
        found = show(context["tag"])
        return self.document.fault(
            at, "unknown kind", found=found, expected=expected, cure=f"use {cure}" if cure else ""
        )

    @functools.cached_property
    def _is_config(self) -> bool:
        return "slm_domain" in self.model.model_fields

    def _about(self, place: Place) -> str:
        description = keys.description(self.model, place)
        return f"add {place[-1]}: {description}" if description else f"add {place[-1]}"


def _found(place: Place, value: Json) -> str:
    """A value for a message; never one from a place where someone may have put a secret."""
    if "credential" in place or "base_url" in place:
        return f"{type(value).__name__} (not shown)"
    return show(value)
