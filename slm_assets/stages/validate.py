"""Everything that can be said about a domain before anything runs: config, contracts, oracles."""

from __future__ import annotations

from slm_assets.domain.checks import check_domain
from slm_assets.domain.config import PythonOracle, RulesOracle
from slm_assets.domain.loading import CONFIG_NAME, Domain, domain_folder, load_domain
from slm_assets.errors import BadInputError, ConfigError, Fault
from slm_assets.models.oracle import load_oracle
from slm_assets.models.rules import check_rules
from slm_assets.registry.home import Home
from slm_assets.stages.climbing.faults import ladder_faults
from slm_assets.stages.table import BY_NAME


def validate_domain(home: Home, name: str) -> list[Fault]:
    """All faults and warnings of a domain, sorted; nothing is written and nothing of it runs.

    BadInputError only where there is no such domain.
    """
    folder = domain_folder(home.domains, name)
    try:
        domain = load_domain(folder)
        faults = set(domain.warnings) | set(check_domain(domain, count_rows=True))
    except ConfigError as error:
        return error.faults
    except BadInputError as error:
        return [Fault(CONFIG_NAME, "$.slm_domain", error.message, cure=error.cure)]
    faults.update(fault for role in domain.config.roles for fault in _oracle(domain, role.id))
    faults.update(_unknown_stages(domain))
    faults.update(ladder_faults(domain))
    return sorted(faults)


def _unknown_stages(domain: Domain) -> list[Fault]:
    """Names under `stages` that no stage has: they would be settings for nothing."""
    return [
        Fault(CONFIG_NAME, f"$.slm_domain.stages.{name}", "no stage of that name", name, ", ".join(BY_NAME))
        for name in domain.config.stages
        if name not in BY_NAME
    ]


def problem_of(home: Home, name: str) -> str:
    """Why a domain's config cannot be used now, in a line; "" where it can."""
    folder = domain_folder(home.domains, name)
    try:
        load_domain(folder)
    except ConfigError as error:
        more = len(error.faults) - 1
        return f"{error.faults[0]}{f' (and {more} more: slm validate {name})' if more else ''}"
    except BadInputError as error:
        return error.message
    return ""


def _oracle(domain: Domain, role_id: str) -> list[Fault]:
    oracle = domain.role(role_id).deterministic_oracle
    if isinstance(oracle, RulesOracle):
        return check_rules(domain.rules(role_id), oracle.path)
    if oracle is None or isinstance(oracle, PythonOracle):
        return []
    try:
        load_oracle(domain, role_id)
    except BadInputError as error:
        index = [role.id for role in domain.config.roles].index(role_id)
        at = f"$.slm_domain.roles[{index}].deterministic_oracle"
        return [Fault("slm.config.yaml", at, error.message, cure=error.cure, severity="warning")]
    return []
