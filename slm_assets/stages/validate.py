"""Everything that can be said about a domain before anything runs: config, contracts, oracles."""

from __future__ import annotations

from slm_assets.domain.checks import check_domain
from slm_assets.domain.config import PythonOracle, RulesOracle
from slm_assets.domain.loading import Domain, domain_folder, load_domain
from slm_assets.errors import BadInputError, ConfigError, Fault
from slm_assets.models.ladder import AVAILABLE
from slm_assets.models.oracle import load_oracle
from slm_assets.models.rules import check_rules
from slm_assets.registry.home import Home


def validate_domain(home: Home, name: str) -> list[Fault]:
    """All faults and warnings of a domain, sorted; nothing is written and nothing of it runs."""
    try:
        domain = load_domain(domain_folder(home.domains, name))
    except ConfigError as error:
        return error.faults
    faults = set(domain.warnings) | set(check_domain(domain, count_rows=True))
    faults.update(fault for role in domain.config.roles for fault in _oracle(domain, role.id))
    recipe = domain.config.model.recipe
    if recipe not in AVAILABLE:
        faults.add(
            Fault(
                "slm.config.yaml",
                "$.slm_domain.model.recipe",
                "this release cannot train the recipe",
                found=recipe,
                expected=" or ".join(AVAILABLE),
                severity="warning",
            )
        )
    return sorted(faults)


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
