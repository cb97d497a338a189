"""`python -m slm_assets.cli`."""

from slm_assets.cli import main

main()
