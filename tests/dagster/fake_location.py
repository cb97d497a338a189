"""The code location of the daemon test: the real definitions over stages that answer at once."""

import fake_stages

from slm_assets.definitions import defs

fake_stages.install()

__all__ = ["defs"]
