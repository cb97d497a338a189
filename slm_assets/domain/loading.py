"""From a folder to a Domain: read, validate, resolve every reference, report every fault at once."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from slm_assets import canonical
from slm_assets.domain.checks import check_domain
from slm_assets.domain.config import ConfigFile, DomainConfig
from slm_assets.domain.contracts import Validator, check_schema
from slm_assets.domain.documents import MAX_CONFIG_BYTES, Document, Place, Unreadable, read_document
from slm_assets.domain.domain import CONFIG_NAME, Domain, data_paths
from slm_assets.domain.faults import parse
from slm_assets.domain.files import DATA_SUFFIXES, Absent, Folder, Refused, normal
from slm_assets.domain.referenced import Kind, check_document, check_text, references
from slm_assets.domain.references import Schemas, first_with_id
from slm_assets.domain.simulation import read_simulation
from slm_assets.errors import BadInputError, ConfigError, Fault

__all__ = [
    "CONFIG_NAME",
    "Domain",
    "domain_folder",
    "list_domains",
    "load_domain",
    "read_bundle",
    "write_bundle",
]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def load_domain(folder: Path) -> Domain:
    """The domain in a folder. Raises ConfigError with every fault, BadInputError where there is no folder."""
    loader = _Loader(folder)
    domain = loader.load(data=True)
    found = list(dict.fromkeys([*loader.faults, *(check_domain(domain) if domain else [])]))
    faults = [fault for fault in found if fault.severity == "error"]
    if faults or domain is None:
        raise ConfigError(loader.name, faults)
    warnings = tuple(fault for fault in found if fault.severity == "warning")
    return Domain(domain.name, domain.config, domain.files, domain.folder, warnings)


def write_bundle(domain: Domain, folder: Path) -> None:
    """Write the domain's files under their paths into a folder: what stages run from, without data."""
    for path, data in sorted(domain.files.items()):
        canonical.write_bytes(folder / path, data)


def read_bundle(folder: Path) -> Domain:
    """The domain in a folder that `write_bundle` wrote; it has no folder and so no data."""
    loader = _Loader(folder)
    domain = loader.load(data=False)
    faults = [fault for fault in loader.faults if fault.severity == "error"]
    if faults or domain is None:
        raise ConfigError(loader.name, faults)
    return Domain(domain.name, domain.config, domain.files)


def list_domains(root: Path) -> list[str]:
    """Names of the folders under root that hold a config; nothing is opened, so nothing in one can be wrong."""
    if not root.is_dir():
        return []
    return sorted(child.name for child in root.iterdir() if _NAME.fullmatch(child.name) and _holds_config(child))


def domain_folder(root: Path, name: str) -> Path:
    """The folder of a domain by name; raises BadInputError naming those there are."""
    if _NAME.fullmatch(name) and _holds_config(root / name):
        return root / name
    known = ", ".join(list_domains(root)) or "none"
    raise BadInputError(f"no domain {name[:80]!r} under {root}", cure=f"domains there: {known}")


def _holds_config(folder: Path) -> bool:
    try:
        return (folder / CONFIG_NAME).is_file()
    except OSError:
        # It cannot be looked into, which is its own error and not that of the others: it shows when it is loaded.
        return True


class _Loader:
    """One reading of one folder: the files read so far and the faults found so far."""

    def __init__(self, folder: Path) -> None:
        try:
            self.folder = Folder.at(folder)
        except Refused as refused:
            raise BadInputError(f"{refused.message}: {refused.found}", cure=refused.cure) from None
        self.name = self.folder.root.name
        self.faults: list[Fault] = []
        self.files: dict[str, bytes] = {}
        self.document = Document(CONFIG_NAME, None)
        self._documents: dict[str, Document | None] = {}
        self._checked: set[str] = set()
        self._unsound: set[str] = set()
        self._schemas = Schemas(self._contract, self._with_id)

    def load(self, *, data: bool) -> Domain | None:
        """The domain as far as its faults let it be read; `data` says whether the corpus must be there."""
        config = self._config()
        if config is None:
            return None
        self.name = config.name
        for place, written, kind in references(config):
            path = self._referenced(place, written, kind)
            if path is not None and path not in self._unsound:
                known = len(self.faults)
                self._check(path, kind)
                if len(self.faults) > known:
                    self._unsound.add(path)
        if data:
            self._check_data(config)
            self._check_simulation(config)
        sound = {path: data for path, data in sorted(self.files.items()) if path not in self._unsound}
        return Domain(config.name, config, sound, self.folder.root)

    def _config(self) -> DomainConfig | None:
        try:
            data = self.folder.read(CONFIG_NAME, MAX_CONFIG_BYTES)
            self.document = read_document(data, CONFIG_NAME, MAX_CONFIG_BYTES)
        except Refused as refused:
            self._note((), refused.message, **refused.parts)
            return None
        except Unreadable as error:
            self.faults.extend(error.faults)
            return None
        self.files[CONFIG_NAME] = data
        parsed, faults = parse(ConfigFile, self.document)
        self.faults.extend(faults)
        return parsed.slm_domain if parsed else None

    def _spelled(self, written: str) -> str:
        """`<domain>` in a path stands for the domain's name, unless something has that very name."""
        if "<domain>" in written and not self.folder.exists(written):
            return written.replace("<domain>", self.name)
        return written

    def _referenced(self, place: Place, written: str, kind: Kind) -> str | None:
        """Read a referenced file; its path in `files`, or None with the fault noted."""
        try:
            return self._read(self._spelled(written))
        except Refused as refused:
            elsewhere = kind == "playbook" and isinstance(refused, Absent)
            parts = refused.parts | ({"cure": "taken as a NoETL catalog path"} if elsewhere else {})
            severity = "warning" if elsewhere else "error"
            self._note(("slm_domain", *place), refused.message, severity=severity, **parts)
            return None

    def _read(self, written: str) -> str:
        path = normal(written)
        if path not in self.files:
            self.files[path] = self.folder.read(path)
        return path

    def _parsed(self, path: str) -> Document | None:
        """A file that was read, as a document; its faults are noted once."""
        if path not in self._documents:
            try:
                self._documents[path] = read_document(self.files[path], path)
            except Unreadable as error:
                self._documents[path] = None
                self.faults.extend(error.faults)
        return self._documents[path]

    def _check(self, path: str, kind: Kind) -> None:
        if kind == "schema":
            self._check_contract(path)
        elif kind in {"text", "python"}:
            self.faults.extend(check_text(self.files[path], path, kind))
        elif (document := self._parsed(path)) is not None:
            self.faults.extend(check_document(document, kind))

    def _check_contract(self, path: str) -> None:
        """The file, all that it refers to, and whether the whole compiles."""
        try:
            self._contract(path)
            schema, faults = self._schemas.bundle(path)
        except Refused as refused:
            if not isinstance(refused, _Noted):
                self.faults.append(Document(path, None).fault((), refused.message, **refused.parts))
            return
        self.faults.extend(faults)
        if not faults:
            try:
                Validator(schema)
            except ValueError as error:
                message = str(error).splitlines()[0]
                self.faults.append(Fault(path, "$", "not a usable JSON Schema", found=message))

    def _contract(self, path: str) -> Document:
        """A sound schema file; raises Refused where it is not, with its faults noted."""
        document = self._parsed(self._read(path))
        if document is not None and path not in self._checked:
            faults = check_schema(document)
            self.faults.extend(faults)
            self._checked.add(path)
            if faults:
                self._unsound.add(path)
        if document is None or path in self._unsound:
            raise _Noted("not a usable schema", found=path, cure="see the faults of that file")
        return document

    def _with_id(self, uri: str) -> str | None:
        return first_with_id(self._candidates, uri)

    @cached_property
    def _candidates(self) -> list[Document]:
        """All JSON files of the folder that parse: only looked at when a reference names an unknown `$id`."""
        found = []
        for name in self.folder.json_files():
            try:
                found.append(read_document(self.folder.read(name), name))
            except (Refused, Unreadable):
                continue
        return found

    def _check_data(self, config: DomainConfig) -> None:
        for place, _, written in data_paths(config):
            at = ("slm_domain", *place)
            try:
                if not self.folder.data_files(self._spelled(written)):
                    expected = f"files ending in {', '.join(DATA_SUFFIXES)}"
                    self._note(at, "no rows yet", found=written, expected=expected, severity="warning")
            except Refused as refused:
                self._note(at, refused.message, **refused.parts)

    def _check_simulation(self, config: DomainConfig) -> None:
        """The scenarios, which are data: read to be checked, and no part of the domain's files."""
        if (written := config.improvement.simulation) is None:
            return
        try:
            self.faults.extend(read_simulation(config, self.folder, self._spelled(written))[1])
        except Refused as refused:
            self._note(("slm_domain", "improvement", "simulation"), refused.message, **refused.parts)

    def _note(self, place: Place, message: str, *, severity: str = "error", **parts: str) -> None:
        self.faults.append(self.document.fault(place, message, severity=severity, **parts))


class _Noted(Refused):
    """A refusal whose reasons stand among the faults already."""
