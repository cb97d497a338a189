"""These tests need the language model extra; without it they skip and say so."""

from __future__ import annotations

import pytest

pytest.importorskip("llguidance", reason="constrained decoding needs slm-assets[lora]: make test-lora")
