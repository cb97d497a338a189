"""What is kept of live traffic: sampled or with a bad outcome, redacted, on disk, off the response path."""
