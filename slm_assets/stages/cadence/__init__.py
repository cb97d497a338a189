"""When a domain is looked at, when it is retrained, and what that may cost."""
