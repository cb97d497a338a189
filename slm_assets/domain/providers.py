"""Where the vendors of teachers answer OpenAI's chat completions."""

from __future__ import annotations

PROVIDERS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "vertex_gemini": "https://{region}-aiplatform.googleapis.com/v1/projects/{project}/locations/{region}"
    "/endpoints/openapi",
}
"""Vendor → its endpoint; what stands in braces is `vertex` of the teacher."""
