"""`python -m slm_assets.cli`."""

from slm_assets.cli.main import main

main()
