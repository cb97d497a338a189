"""The parts of the evaluate stage: who is measured, on what, how well, how fast, and what the gates say."""
