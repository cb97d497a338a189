"""`$ref`: finding what a contract refers to inside of its domain, and bundling it into one document.

Resolution follows JSON Schema: a reference is resolved against the nearest `$id`, then against the
file's own place. Nothing is ever fetched: an http reference must be the `$id` of a file of the domain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urldefrag, urljoin

from slm_assets.canonical import Json
from slm_assets.domain.documents import Document, Place, show
from slm_assets.domain.files import Refused
from slm_assets.errors import Fault

LOCAL = "http://domain.invalid/"
MAX_FILES = 500

_DATA = {"const", "enum", "default", "examples"}
_MAPS = {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"}


def subschemas(node: Json, place: Place = (), named: bool = False) -> Iterator[tuple[Place, dict[str, Json]]]:
    """Each object of a schema that may hold keywords, with its place; instance data is left out.

    `named`: the node is a mapping of names to schemas, so its keys are not keywords.
    """
    if isinstance(node, list):
        for index, item in enumerate(node):
            yield from subschemas(item, (*place, index))
    elif isinstance(node, dict):
        if not named:
            yield place, node
        for key, child in node.items():
            if named or key not in _DATA:
                yield from subschemas(child, (*place, key), not named and key in _MAPS)


def pointer(place: Place) -> str:
    """RFC 6901 pointer of a place."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def follow(document: Json, path: str) -> Json:
    """The value at an RFC 6901 pointer; raises KeyError where there is none."""
    value = document
    for raw in path.split("/")[1:]:
        part = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict):
            value = value[part]
        else:
            raise KeyError(path)
    return value


def first_with_id(documents: Iterable[Document], uri: str) -> str | None:
    """The file of the first document whose `$id` is this one."""
    for document in documents:
        identifier = document.value.get("$id") if isinstance(document.value, dict) else None
        if isinstance(identifier, str) and urldefrag(identifier)[0] == uri:
            return document.file
    return None


@dataclass
class _File:
    """One schema file: its resources (`$id`s), anchors and references by place."""

    document: Document
    resources: dict[str, str] = field(default_factory=dict)
    anchors: dict[tuple[str, str], str] = field(default_factory=dict)
    references: dict[Place, tuple[str, str]] = field(default_factory=dict)


class Schemas:
    """The schema files of a domain, loaded as references ask for them.

    `read(path)` parses a file (raises Refused); `by_id(uri)` names the domain's file of that `$id`, if any.
    """

    def __init__(self, read: Callable[[str], Document], by_id: Callable[[str], str | None]) -> None:
        self._read = read
        self._by_id = by_id
        self._files: dict[str, _File] = {}

    def bundle(self, name: str) -> tuple[dict[str, Json], list[Fault]]:
        """The schema in a file with all it refers to under `$defs`: every `$ref` starts with `#`.

        With faults (a reference that leads nowhere, out of the domain or to another draft) the schema
        holds `true` at those places.
        """
        faults: list[Fault] = []
        names = {name: ""}
        bodies: dict[str, Json] = {}
        queue = [name]
        while queue:
            current = queue.pop(0)
            bodies[current] = self._rewritten(current, name, names, queue, faults)
        root: dict[str, Json] = dict(bodies.pop(name))
        if bodies:
            root["$defs"] = {**root.get("$defs", {}), **{names[file]: body for file, body in bodies.items()}}
        return root, faults

    def _rewritten(self, current: str, root: str, names: dict[str, str], queue: list[str], faults: list[Fault]) -> Json:
        document = self._file(current).document
        replaced: dict[Place, str | None] = {}
        for place, (reference, base) in self._file(current).references.items():
            at = (*place, "$ref")
            try:
                file, path = self._resolve(current, reference, base)
                self._same_draft(root, file)
            except Refused as refused:
                faults.append(document.fault(at, refused.message, **refused.parts))
                replaced[place] = None
                continue
            if file not in names:
                if len(names) >= MAX_FILES:
                    raise Refused("too many files", expected=f"at most {MAX_FILES} files in a contract")
                names[file] = self._definition(file, root, names)
                queue.append(file)
            prefix = f"/$defs/{names[file]}" if file != root else ""
            replaced[place] = "#" + quote(prefix + path, safe="/~!$&'()*+,;=:@")
        return _rewrite(document.value, replaced, keep_draft=current == root)

    def _definition(self, file: str, root: str, names: dict[str, str]) -> str:
        """A readable name under `$defs` that nothing else has."""
        base = re.sub(r"[^A-Za-z0-9]+", "_", file.removesuffix(".json").removesuffix(".schema")).strip("_")
        taken = {*names.values(), *self._file(root).document.value.get("$defs", {})}
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        return name

    def _same_draft(self, root: str, file: str) -> None:
        wanted = self._file(root).document.value.get("$schema")
        value = self._file(file).document.value
        found = value.get("$schema") if isinstance(value, dict) else None
        if found and wanted and found.rstrip("#") != wanted.rstrip("#"):
            raise Refused(
                "another draft", found=f"{file}: {found}", expected=wanted, cure="use one draft in a contract"
            )

    def _resolve(self, current: str, reference: str, base: str) -> tuple[str, str]:
        """(file, pointer) that a reference means; raises Refused."""
        if base.startswith(LOCAL) and _climbs_out(unquote(base.removeprefix(LOCAL)), reference):
            raise Refused("leaves the domain's folder", found=show(reference), expected="a file inside of it")
        uri, fragment = urldefrag(urljoin(base, reference))
        home = LOCAL + quote(current)
        file = self._find(current, uri) or self._find(current, urldefrag(urljoin(home, reference))[0])
        if file is None:
            if uri.startswith(LOCAL):
                self._file(unquote(uri.removeprefix(LOCAL)))
            raise Refused(
                "a reference out of the domain",
                found=show(reference),
                expected="a file of the domain, or the $id of one; nothing is fetched",
                cure="copy the schema into the domain's folder",
            )
        entry = self._file(file)
        start = entry.resources.get(uri, "")
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            anchor = entry.anchors.get((uri, fragment)) or entry.anchors.get((LOCAL + quote(file), fragment))
            if anchor is None:
                raise Refused("no such anchor", found=show(reference), expected=f"an $anchor in {file}")
            return file, anchor
        path = start + fragment
        try:
            follow(entry.document.value, path)
        except KeyError:
            message = "a reference that leads nowhere"
            raise Refused(message, found=show(reference), cure=f"it should be in {file}") from None
        return file, path

    def _find(self, current: str, uri: str) -> str | None:
        """The file that holds a resource, or None."""
        for name in (current, *self._files):
            if uri in self._file(name).resources:
                return name
        if uri.startswith(LOCAL):
            name = unquote(uri.removeprefix(LOCAL))
            try:
                self._file(name)
            except Refused:
                return None
            return name
        return self._by_id(uri)

    def _file(self, name: str) -> _File:
        if name not in self._files:
            document = self._read(name)
            self._files[name] = _index(document, LOCAL + quote(name))
        return self._files[name]


def _climbs_out(file: str, reference: str) -> bool:
    """Whether a relative reference has more `..` than the file's folder has parents: URLs ignore those."""
    depth = file.count("/")
    for part in [] if "://" in reference else urldefrag(reference)[0].split("/")[:-1]:
        depth += -1 if part == ".." else part not in {"", "."}
        if depth < 0:
            return True
    return False


def _index(document: Document, home: str) -> _File:
    """Resources, anchors and references of a file; nested `$id`s change the base of what is inside."""
    entry = _File(document, resources={home: ""})
    bases: dict[Place, str] = {(): home}
    for place, node in subschemas(document.value):
        base = next(bases[place[:end]] for end in range(len(place), -1, -1) if place[:end] in bases)
        identifier = node.get("$id")
        if isinstance(identifier, str):
            uri, fragment = urldefrag(urljoin(base, identifier))
            if fragment:
                entry.anchors[(uri, fragment)] = pointer(place)
            elif uri != base:
                base = bases[place] = uri
                entry.resources.setdefault(uri, pointer(place))
        if isinstance(anchor := node.get("$anchor"), str):
            entry.anchors[(base, anchor)] = pointer(place)
        if isinstance(reference := node.get("$ref"), str):
            entry.references[place] = (reference, base)
    return entry


def _rewrite(value: Json, replaced: dict[Place, str | None], keep_draft: bool) -> Json:
    """A copy of a schema with its references replaced and its identifiers, now useless, removed."""
    schemas = {place for place, _ in subschemas(value)}

    def copy(node: Json, place: Place) -> Json:
        if isinstance(node, list):
            return [copy(item, (*place, index)) for index, item in enumerate(node)]
        if not isinstance(node, dict):
            return node
        if place not in schemas:
            return {key: copy(child, (*place, key)) for key, child in node.items()}
        dropped = {"$id", "$anchor"} if keep_draft and not place else {"$id", "$anchor", "$schema"}
        kept = {key: copy(child, (*place, key)) for key, child in node.items() if key not in dropped}
        if place in replaced:
            target = replaced[place]
            kept.pop("$ref")
            if target is not None:
                kept = {"$ref": target, **kept}
        return kept

    return copy(value, ())
