"""`slm`: the command line. One function per command; the work is elsewhere."""

from slm_assets.cli.main import app, main

__all__ = ["app", "main"]
