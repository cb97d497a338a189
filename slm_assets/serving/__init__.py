"""The HTTP service: answers by engine flag, and what is kept of live traffic."""
