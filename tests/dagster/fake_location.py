"""The code location of the daemon test: the real definitions over stages that answer at once."""

import fake_stages

fake_stages.install()

from slm_assets.definitions import defs  # noqa: E402

__all__ = ["defs"]
