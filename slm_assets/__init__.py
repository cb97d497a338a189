"""slm-assets: domain-specific small language models from one config file."""
