"""Versions and their plans: what a version is opened with, and the one request each of its cells has.

A plan freezes the resolved config and the seed rows as artifacts, so a version's stages never read
the domain's folder again: they give the same result after any edit, on any machine.
"""

from __future__ import annotations

import re
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from slm_assets import canonical
from slm_assets.domain.config import DomainConfig
from slm_assets.domain.loading import Domain, domain_folder, list_domains, load_domain, write_bundle
from slm_assets.domain.stamps import stamp
from slm_assets.errors import BadInputError
from slm_assets.models.ladder import LANGUAGE_MODELS
from slm_assets.registry.decisions import overrides
from slm_assets.registry.home import Home
from slm_assets.registry.registry import Flag, Plan, Registry, Row
from slm_assets.registry.reviews import decided_rows
from slm_assets.registry.windows import newest_traffic
from slm_assets.stages.contract import StageRequest
from slm_assets.stages.overriding import overridden
from slm_assets.stages.rows.names import AUDITED, REVIEWED
from slm_assets.stages.shadow_request import shadow_parts
from slm_assets.stages.table import BY_NAME

DEFAULT_NAMESPACE = "local/default"
DEFAULT_PARAMS: dict[str, Any] = {"train_fraction": 1.0}


def registry_for(home: Home, config: DomainConfig) -> Registry:
    """The registry scope that a domain's config names, local/default without one."""
    tenant, project = (config.improvement.governance.registry_namespace or DEFAULT_NAMESPACE).split("/")
    return Registry(home, tenant, project)


def open_domain(home: Home, name: str) -> tuple[Domain, Registry]:
    """Load a domain by name and its registry."""
    domain = load_domain(domain_folder(home.domains, name))
    return domain, registry_for(home, domain.config)


def number_of(version: str) -> int:
    """3 for "v3". BadInputError for anything that is no version."""
    if not re.fullmatch(r"v[1-9][0-9]{0,8}", version):
        raise BadInputError(f"{version!r} is no version", cure="versions are named v1, v2, v3, …")
    return int(version[1:])


def frozen_inputs(domain: Domain, registry: Registry) -> tuple[str, str]:
    """Store the resolved config, and the seed rows with what people decided of live turns so far; returns the
    digests (config, seed)."""
    with tempfile.TemporaryDirectory(prefix="slm-open-") as folder:
        seed = Path(folder) / "seed"
        seed.mkdir()
        for label, path in domain.data_files().items():
            target = seed / label
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
        for source, rows in zip((AUDITED, REVIEWED), decided_rows(registry, domain.name), strict=True):
            if rows:
                canonical.write_jsonl(seed / source / "decided.jsonl", rows)
        if not any(seed.iterdir()) and newest_traffic(registry, domain.name) is None:
            raise BadInputError(
                f"domain {domain.name} has no data file",
                cure="put .jsonl, .jsonl.gz or .parquet files where data.seed_corpus points, "
                "or capture live traffic first: `slm watch`",
            )
        return frozen_config(domain, registry), registry.store.put(seed).sha256


def frozen_config(domain: Domain, registry: Registry) -> str:
    """Store the resolved config; returns its digest."""
    with tempfile.TemporaryDirectory(prefix="slm-open-") as folder:
        config = Path(folder) / "config"
        write_bundle(domain, config)
        return registry.store.put(config).sha256


def open_version(
    domain: Domain,
    registry: Registry,
    *,
    number: int | None = None,
    params: dict[str, Any] | None = None,
    reason: str = "asked for",
    actor: str,
    frozen: tuple[str, str] | None = None,
) -> Plan:
    """Open a new version of a domain: mint its number and write its immutable plan."""
    config, seed = frozen or frozen_inputs(domain, registry)
    incumbents = _incumbents(registry, domain)
    parent = _parent(registry, domain.name, incumbents)
    window = newest_traffic(registry, domain.name)

    def make(_number: int) -> dict[str, Any]:
        return {
            "config": config,
            "seed": seed,
            "parent": parent,
            "incumbents": incumbents,
            "best": _best(registry, domain, incumbents),
            "epoch": parent["epoch"] if parent else 1,
            "window": window,
            "params": {**DEFAULT_PARAMS, **(params or {})},
            "reason": reason,
        }

    return registry.open_plan(domain.name, number=number, actor=actor, make=make)


def newest_match(registry: Registry, domain: str, frozen: tuple[str, str], params: dict[str, Any]) -> Plan | None:
    """The newest version if it was opened with this config, these rows and these parameters."""
    plans = registry.plans(domain)
    wanted = (*frozen, {**DEFAULT_PARAMS, **params})
    newest = plans[-1] if plans else None
    return newest if newest and (newest.config, newest.seed, newest.params) == wanted else None


def version_request(registry: Registry, plan: Plan, stage: str) -> StageRequest:
    """The request of one cell of a version, from the plan and the digests of the cells it needs.

    BadInputError where one of those has not been made yet.
    """
    outputs = {need: output_of(registry, plan, need) for need in BY_NAME[stage].needs}
    inputs = {BY_NAME[need].kind: sha for need, sha in outputs.items()}
    params: dict[str, Any] = {}
    if stage == "dataset":
        inputs["seed"] = plan.seed
        if plan.parent:
            inputs["parent"] = plan.parent["dataset"]
        if plan.window:
            inputs["traffic"] = plan.window["traffic"]
        params = {"train_fraction": plan.params["train_fraction"], "epoch": plan.epoch}
    elif stage == "finetune":
        params = {"seed": 0}
        if _recipe(registry, plan) in ("auto", *LANGUAGE_MODELS):  # compares with what serves, or goes on from it
            inputs |= {f"incumbent_{role}": version["release"] for role, version in plan.incumbents.items()}
    elif stage == "evaluate":
        epoch = summary_of(registry, plan, "dataset")["epoch"]
        params = {
            "epoch": epoch,
            "look": registry.look(plan.domain, epoch, plan.number),
            "first": sorted(set(_role_ids(registry, plan)) - set(plan.incumbents)),
        }
        for name, versions in (("incumbent", plan.incumbents), ("best", plan.best)):
            for role, version in versions.items():
                inputs[f"{name}_{role}"] = version["release"]
    elif stage == "package":
        params = {"approved": sorted(approved_roles(registry, plan) & _undecided(registry, plan))}
        overridden = overridden_roles(registry, plan)
        params |= {"overridden": sorted(overridden)} if overridden else {}
    elif stage == "shadow":
        own, params = shadow_parts(registry, plan, sorted(set(_role_ids(registry, plan)) - set(plan.incumbents)))
        inputs |= own
    return StageRequest(
        stage=stage, domain=plan.domain, version=plan.version, config=plan.config, inputs=inputs, params=params
    )  # fmt: skip


def output_of(registry: Registry, plan: Plan, stage: str) -> str:
    """The digest of a finished cell's output."""
    cell = registry.cell(plan.domain, plan.number, stage)
    if cell is None or cell["status"] != "succeeded":
        raise BadInputError(
            f"{plan.domain} {plan.version}: {stage} has not succeeded yet",
            cure=f"materialise {BY_NAME[stage].asset} of this version first, or `slm run {plan.domain}`",
        )
    sha: str = cell["receipt"]["outputs"][BY_NAME[stage].kind]["sha256"]
    return sha


def summary_of(registry: Registry, plan: Plan, stage: str) -> dict[str, Any]:
    """The summary that a finished cell's receipt carries."""
    output_of(registry, plan, stage)
    cell = registry.cell(plan.domain, plan.number, stage)
    assert cell is not None
    summary: dict[str, Any] = cell["receipt"]["result"]["summary"]
    return summary


def approved_roles(registry: Registry, plan: Plan) -> set[str]:
    """Roles with a named approval bound to the verdicts that stand now."""
    cell = registry.cell(plan.domain, plan.number, "evaluate")
    if cell is None or cell["status"] != "succeeded":
        return set()
    evidence = cell["receipt"]["outputs"]["eval"]["sha256"]
    package = registry.cell(plan.domain, plan.number, "package")
    made = package["receipt"]["outputs"].get("release") if package else None
    bound = {None, made["sha256"]} if made else {None}
    rows = registry.approvals(plan.domain, plan.number)
    return {row["role"] for row in rows if row["evidence"] == evidence and row["release"] in bound}


def overridden_roles(registry: Registry, plan: Plan) -> set[str]:
    """Roles whose every no of the evaluation somebody overrode, bound to these verdicts."""
    own = overrides(registry, plan.domain, plan.number)
    if not own:
        return set()
    rows = [row for row in registry.verdicts(plan.domain, plan.number) if row["stage"] == "evaluate"]
    return overridden(rows, own, approved_roles(registry, plan))


def _undecided(registry: Registry, plan: Plan) -> set[str]:
    cell = registry.cell(plan.domain, plan.number, "evaluate")
    outcomes: dict[str, str] = cell["receipt"]["result"]["roles"] if cell else {}
    return {role for role, outcome in outcomes.items() if outcome == "insufficient"}


def _role_ids(registry: Registry, plan: Plan) -> list[str]:
    return [role["id"] for role in config_block(registry, plan)["roles"]]


def _recipe(registry: Registry, plan: Plan) -> str:
    return str((config_block(registry, plan).get("model") or {}).get("recipe", "linear"))


def config_block(registry: Registry, plan: Plan) -> dict[str, Any]:
    """The config that a version was opened with, as plain data: to know its roles it need not be validated again."""
    import yaml

    config = yaml.safe_load(registry.store.read(plan.config, "slm.config.yaml"))
    return dict(config["slm_domain"])


def _incumbents(registry: Registry, domain: Domain) -> dict[str, dict[str, Any]]:
    flags = registry.flags(domain.name)
    serving = {role.id: flags[role.id] for role in domain.config.roles if role.id in flags}
    return {role: _served(flag) for role, flag in serving.items() if flag.engine == "release"}


def _served(flag: Flag | Row) -> dict[str, Any]:
    if isinstance(flag, Flag):
        return {"number": flag.number, "release": flag.release}
    return {"number": flag["number"], "release": flag["release"]}


def _parent(registry: Registry, domain: str, incumbents: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    if not incumbents:
        return None
    number = max(version["number"] for version in incumbents.values())
    plan = registry.plan(domain, number)
    assert plan is not None, "a flag names a version that was never opened"
    epoch = summary_of(registry, plan, "dataset")["epoch"]
    return {"number": number, "dataset": output_of(registry, plan, "dataset"), "epoch": epoch}


def _best(registry: Registry, domain: Domain, incumbents: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per role the best version ever promoted and not rolled back from, where it is not the incumbent."""
    best: dict[str, dict[str, Any]] = {}
    for role, incumbent in incumbents.items():
        standing: dict[int, Row] = {}
        for event in registry.flag_events(domain.name, role):
            if event["action"] == "rollback" and event["previous"]:
                standing.pop(event["previous"]["number"], None)
            elif event["engine"] == "release":
                standing[event["number"]] = event
        scored = sorted((_primary_value(registry, domain, role, n), n) for n in standing)
        if scored and scored[-1][1] != incumbent["number"]:
            best[role] = _served(standing[scored[-1][1]])
    return best


def _primary_value(registry: Registry, domain: Domain, role: str, number: int) -> float:
    primary = primary_metric(domain.config, role)
    for row in registry.metrics(domain.name, number):
        key = (row["role"], row["metric"], row["subject"], row["mode"], row["slice"])
        if key == (role, primary, "challenger", "end_to_end", ""):
            return float(row["value"] or 0.0)
    return 0.0


def primary_metric(config: DomainConfig, role: str) -> str:
    """The metric on which a challenger must not be worse: the one so marked, else the role's first
    compared metric, else the exact frame."""
    first = config.roles[0].id
    own = [m for m in config.eval.metrics if m.path is not None and m.kind == "match" and (m.role or first) == role]
    marked = [m.id for m in own if m.primary]
    return (marked or [m.id for m in own] or ["exact"])[0]


def registry_of(home: Home, name: str) -> Registry:
    """The registry scope of a domain by its name alone: its config need not be valid, so that status
    and rollback work while somebody edits. BadInputError for a domain that has no folder."""
    return _registry(home, _namespace_of(domain_folder(home.domains, name)))


def registries(home: Home, name: str | None = None) -> list[Registry]:
    """The registry of one domain, or one for each namespace that a domain is in, sorted."""
    if name:
        return [registry_of(home, name)]
    return [registry for registry, _domains in namespaces(home)]


def namespaces(home: Home) -> list[tuple[Registry, list[str]]]:
    """The registry of each namespace that a domain is in, with its domains, sorted.

    A domain whose namespace is no name is left out: its fault is shown elsewhere.
    """
    found: dict[str, list[str]] = {}
    for domain in list_domains(home.domains):
        found.setdefault(_namespace_of(home.domains / domain), []).append(domain)
    scoped = []
    for namespace, domains in sorted(found.items()):
        with suppress(BadInputError):
            scoped.append((_registry(home, namespace), domains))
    return scoped


def _registry(home: Home, namespace: str) -> Registry:
    tenant, _, project = namespace.partition("/")
    return Registry(home, tenant, project)


def _namespace_of(folder: Path) -> str:
    path = folder / "slm.config.yaml"
    return _namespace(path, stamp(path))


@lru_cache(maxsize=4096)
def _namespace(path: Path, _as_of: tuple[int, ...]) -> str:
    """What a config file, as of its stamp, says of the namespace; sensors ask for it all the time."""
    import yaml

    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return str(document["slm_domain"]["improvement"]["governance"]["registry_namespace"] or DEFAULT_NAMESPACE)
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        return DEFAULT_NAMESPACE
