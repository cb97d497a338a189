"""Teachers: larger models behind OpenAI-compatible endpoints, asked within a budget, each request once."""
