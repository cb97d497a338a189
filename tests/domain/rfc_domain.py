"""The annotated config of the public RFC, as it stands, with small files of our own around it."""

from __future__ import annotations

import json
from pathlib import Path

RFC_CONFIG = """\
slm_domain:
  name: travel
  description: Intent, tool routing and widgets for the planner
  roles:                                          # 1 I/O contract
    - id: extract
      input_schema: contracts/extract_input.schema.json
      output_schema: contracts/extract_output.schema.json
      system_prompt: prompts/extract.md
      decoding_grammar: contracts/extract_output.schema.json      # JSON Schema or GBNF
      deterministic_oracle: {kind: playbook, path: automation/agents/deterministic/extract}
    - id: render
      input_schema: contracts/render_input.schema.json
      output_schema: contracts/render_union.schema.json
      system_prompt: prompts/render.md
      decoding_grammar: contracts/render_union.schema.json
  vocab: {tools: contracts/tool_catalog.json, outputs: contracts/widget_types.json}
  data:                                           # 2 data sources
    event_log_replay: {scope: "tenant=<org>/project=<domain>", via: server_api}
    seed_corpus: datasets/seed/
    adversarial: datasets/adversarial/
    redaction_policy: policies/pii_redaction.yaml
  teachers:                                       # 3 labelling ceiling
    - id: primary
      kind: http
      credential: "{{ teacher_token }}"           # an alias, never a secret
      model: claude-opus-4-8
      role_prompts: {extract: prompts/teacher_extract.md, render: prompts/teacher_render.md}
  model:                                          # 4 what is trained
    base_family: qwen2.5
    base_size: "1.5B"
    recipe: lora
    hyperparams: recipes/lora.yaml
    role_layout: single_multitask                 # or per_role
  eval:                                           # 5 gates
    floor: deterministic_oracle
    ceiling: teacher.primary
    metrics:
      - {id: tool_match, target: 0.98}
      - {id: arg_fidelity, target: 0.95, schema_valid: 1.0}
      - {id: output_validity, target: 1.0, enforced_by: grammar}
      - {id: latency_p95_ms, target_relative: "<= ceiling"}
    eval_sets: {holdout: datasets/eval/holdout/, golden_replay: datasets/eval/golden/}
  serving:                                        # 6 where it runs
    target: cpu                                   # cpu | gpu
    quantization: gguf
    consuming_playbook: playbooks/itinerary-planner.yaml
    engine_flags: {extract: extraction_engine, render: render_engine}
  improvement:                                    # 7 the loop
    capture: {sample_rate: 0.1, outcome_signals: [user_correction, tool_error, abandonment]}
    schedule: "0 3 * * 0"
    retrain_triggers: policies/retrain_gates.yaml
    promotion_gates: policies/promotion_gates.yaml
    governance: {registry_namespace: "<org>/<domain>", cost_budget: budgets/<domain>.yaml}
"""

TOOLS = ["places.search", "hotels.search"]
WIDGETS = ["place_list", "hotel_list"]

EXTRACT_OUTPUT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["tool_requests"],
    "properties": {
        "tool_requests": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "additionalProperties": False,
                "properties": {"tool": {"enum": TOOLS}, "arguments": {"type": "object"}},
            },
        }
    },
}
RENDER_OUTPUT = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "oneOf": [{"$ref": f"widgets/{name}.json"} for name in WIDGETS],
}
FILES: dict[str, object] = {
    "contracts/extract_input.schema.json": {"type": "object", "properties": {"text": {"type": "string"}}},
    "contracts/extract_output.schema.json": EXTRACT_OUTPUT,
    "contracts/render_input.schema.json": {"type": "object"},
    "contracts/render_union.schema.json": RENDER_OUTPUT,
    **{
        f"contracts/widgets/{name}.json": {
            "type": "object",
            "required": ["widget_type"],
            "properties": {"widget_type": {"const": name}},
        }
        for name in WIDGETS
    },
    "contracts/tool_catalog.json": [{"name": name, "description": f"calls {name}"} for name in TOOLS],
    "contracts/widget_types.json": WIDGETS,
    "prompts/extract.md": "Extract the tool call.\n",
    "prompts/render.md": "Render the widgets.\n",
    "prompts/teacher_extract.md": "You label turns.\n",
    "prompts/teacher_render.md": "You render turns.\n",
    "policies/pii_redaction.yaml": "email: mask\n",
    "policies/retrain_gates.yaml": "staleness: {days: 30}\n",
    "policies/promotion_gates.yaml": "margin: 0.02\nconfidence: 0.95\n",
    "recipes/lora.yaml": "rank: 16\nlearning_rate: 1e-4\n",
    "playbooks/itinerary-planner.yaml": "kind: Playbook\n",
    "budgets/travel.yaml": "usd_per_month: 20\n",
}


def write(folder: Path, files: dict[str, object]) -> Path:
    """Write files (text as it is, anything else as JSON) under a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def rfc_folder(root: Path) -> Path:
    """The RFC's domain in `root/travel`."""
    return write(root / "travel", {"slm.config.yaml": RFC_CONFIG, **FILES})
