"""`slm.config.yaml` as pydantic models: seven blocks, every key named here, unknown keys refused.

Paths are strings relative to the config's folder; `loading` resolves them and refuses what leaves it.
JSON pointers (RFC 6901) address values inside rows, inputs and outputs; `*` stands for each item.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=400)]
Pointer = Annotated[str, StringConstraints(pattern=r"^(/[^/]*)*$", max_length=400)]
Share = Annotated[float, Field(ge=0, le=1)]


class Block(BaseModel):
    """Base of every block: immutable, and an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# 1. Contracts ------------------------------------------------------------------------------------


class RulesOracle(Block):
    """A declarative oracle: patterns, lexicons and CEL expressions in a YAML file."""

    kind: Literal["rules"]
    path: RelativePath


class PythonOracle(Block):
    """A function `(input: dict) -> dict` in a file of the domain, run in a child process with limits."""

    kind: Literal["python"]
    path: RelativePath
    function: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = "predict"
    timeout_s: float = Field(default=5.0, gt=0, le=600, description="Longest time for one input.")
    memory_mb: int = Field(default=512, ge=64, description="Address space of the child process.")


class PlaybookOracle(Block):
    """An oracle that lives in NoETL; `path` is its catalog path, not a file."""

    kind: Literal["playbook"]
    path: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,200}$")]


Oracle = Annotated[RulesOracle | PythonOracle | PlaybookOracle, Field(discriminator="kind")]


class Role(Block):
    """One model task: what goes in, what must come out, and who answers it without a model."""

    id: Identifier
    description: str = ""
    reads: list[Identifier] = Field(
        default=[],
        description="Earlier roles whose outputs this role gets; its input is then "
        "{turn: <the turn>, <role>: <its output>, …}. Empty: its input is the turn itself.",
    )
    input_schema: RelativePath | None = None
    output_schema: RelativePath
    system_prompt: RelativePath | None = None
    decoding_grammar: RelativePath | None = Field(
        default=None, description="JSON Schema or GBNF; default: the output schema."
    )
    deterministic_oracle: Oracle | None = Field(
        default=None, description="None: the floor is the majority baseline."
    )


class Vocabulary(Block):
    """A closed list of values and the place in a role's output where they occur."""

    role: Identifier
    path: Pointer
    file: RelativePath | None = Field(default=None, description="JSON list; default: the contract's enum.")


# 2. Data -----------------------------------------------------------------------------------------


class RowFields(Block):
    """Where a row of the corpus keeps its parts. A mapping builds an object from several places."""

    id: Pointer | None = Field(default="/id", description="None, or absent in a row: the content's digest.")
    input: Pointer | dict[str, Pointer] = "/input"
    labels: Pointer | dict[str, Any] = Field(
        default="/labels", description="Object of role → output, or a mapping of role → pointer or template."
    )
    label_source: Pointer | None = Field(
        default="/label_source", description="gold (default where labels are given) or reviewed."
    )


class Split(Block):
    """How rows are assigned to train, validation and eval; assignments never move."""

    kind: Literal["grouped", "fixed"] = Field(
        default="grouped",
        description="fixed: seed_corpus is train and eval.eval_sets.holdout is eval, as they are.",
    )
    eval_ratio: Share = 0.2
    validation_ratio: Share = 0.1
    seed: str = "slm"
    group_by: list[Pointer] = Field(
        default=[], description="Rows that share a value at any of these places stay together."
    )


class NearDuplicates(Block):
    """What counts as nearly the same: equal structured part, and text this similar."""

    threshold: Share = Field(default=0.8, description="Jaccard similarity of the word sets.")
    min_words: int = Field(default=4, ge=1, description="Shorter texts are compared exactly.")


class EventLogReplay(Block):
    """Turns of the consuming playbook, read through the NoETL server's API."""

    scope: str = ""
    via: Literal["server_api"] = "server_api"
    status: Literal["enabled", "disabled"] = "enabled"
    path: str | None = None
    extract_node: str | None = None
    redaction: str | None = None
    cap_turns: int | None = Field(default=None, ge=1)


class Data(Block):
    """Where the rows come from. A folder means all its .jsonl, .jsonl.gz and .parquet files."""

    seed_corpus: RelativePath | list[RelativePath] | None = None
    adversarial: RelativePath | list[RelativePath] | None = None
    event_log_replay: EventLogReplay | None = None
    redaction_policy: RelativePath | None = None
    fields: RowFields = RowFields()
    split: Split = Split()
    near_duplicates: NearDuplicates = NearDuplicates()
    max_quarantine_share: Share = Field(
        default=0.05, description="The dataset stage stops when more rows than this are unreadable."
    )
    max_row_bytes: int = Field(default=4_000_000, ge=1_000)

    @model_validator(mode="before")
    @classmethod
    def _split_shorthand(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("split"), str):
            return {**value, "split": {"kind": value["split"]}}
        return value


# 3. Teachers -------------------------------------------------------------------------------------


class Price(Block):
    """US dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Vertex(Block):
    """Where a Vertex AI model lives."""

    project: str
    region: str = "us-central1"


class Teacher(Block):
    """A larger model that labels and marks the ceiling. `credential` is an alias, never a secret."""

    id: Identifier
    status: Literal["enabled", "disabled"] = "enabled"
    kind: Literal["http", "openai"] = "http"
    provider: str | None = None
    vertex: Vertex | None = None
    base_url: str | None = None
    credential: str | None = None
    model: str | None = None
    models: dict[str, str] = {}
    role_prompts: dict[Identifier, RelativePath] = {}
    constrained_decoding: bool = True
    pricing: dict[str, Price] = {}
    request_sleep_s: float = Field(default=0.0, ge=0)
    note: str = ""


# 4. Model ----------------------------------------------------------------------------------------

Recipe = Literal["linear", "encoder", "cascade", "auto", "lora", "qlora", "full"]


class Model(Block):
    """What is trained, and how."""

    status: Literal["enabled", "deferred"] = "enabled"
    base_family: str | None = None
    base_size: str | None = None
    candidates: list[str] = []
    recipe: Recipe = "linear"
    hyperparams: RelativePath | dict[str, Any] | None = None
    role_layout: Literal["single_multitask", "per_role"] = "per_role"
    note: str = ""


# 5. Gates ----------------------------------------------------------------------------------------


class Metric(Block):
    """A gated number. With `path`: exact match at that place of the role's output, mean over rows.

    Without: a built-in of the same name (`exact`, `turn_exact`, `output_validity`, `latency_p50_ms`,
    `latency_p95_ms`, `checkpoint_bytes`).
    """

    id: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    role: Identifier | None = None
    path: Pointer | None = None
    absent: Any = Field(default=None, description="What an absent value counts as.")
    target: float | None = None
    target_relative: str | None = Field(default=None, description='Such as "<= ceiling".')
    margin: float | None = Field(default=None, ge=0, le=1, description="Overrides the policy's margin.")
    primary: bool = Field(default=False, description="The metric on which a challenger must not be worse.")
    schema_valid: float | None = Field(default=None, ge=0, le=1)
    enforced_by: Literal["grammar", "schema"] | None = None


class Slice(Block):
    """Rows that matter on their own: those whose input has one of these values at `path`."""

    id: Identifier
    path: Pointer = Field(description="Into {input, labels, source, id} of a row.")
    values: list[Any] = Field(default=[], description="Empty: the path exists.")
    critical: bool = Field(default=False, description="Critical slices gate; the others warn.")
    min_n: int = Field(default=30, ge=1)


class EvalSets(Block):
    """Given eval rows: `holdout` is always eval; `golden_replay` grows with reviewed turns."""

    holdout: RelativePath | list[RelativePath] | None = None
    golden_replay: RelativePath | list[RelativePath] | None = None


class Eval(Block):
    """What is measured and what is demanded."""

    candidate: str | None = None
    floor: Literal["deterministic_oracle", "majority"] = "deterministic_oracle"
    ceiling: str | None = Field(default=None, description="teacher.<id>")
    metrics: list[Metric] = []
    eval_sets: EvalSets = EvalSets()
    slices: list[Slice] = []
    certify: Literal["warn", "strict"] = Field(
        default="warn", description="strict: refuse targets that the eval set is too small to certify."
    )


# 6. Serving --------------------------------------------------------------------------------------


class Serving(Block):
    """Where the model answers."""

    status: Literal["enabled", "deferred"] = "enabled"
    target: Literal["cpu", "gpu"] = "cpu"
    quantization: Literal["none", "int8", "gguf"] = "none"
    consuming_playbook: RelativePath | None = None
    engine_flags: dict[Identifier, str] = {}


# 7. Improvement ----------------------------------------------------------------------------------


class Capture(Block):
    """What is kept of live traffic."""

    sample_rate: Share = 0.1
    outcome_signals: list[str] = []


class Governance(Block):
    """Who owns the results and what they may cost."""

    registry_namespace: Annotated[str, StringConstraints(pattern=r"^[^/\s]+/[^/\s]+$")] | None = Field(
        default=None, description="<tenant>/<project> of every registry entry."
    )
    cost_budget: RelativePath | None = None


class Improvement(Block):
    """The loop."""

    status: Literal["enabled", "deferred"] = "enabled"
    capture: Capture | None = None
    schedule: str | None = Field(default=None, description="Cron, five fields.")
    retrain_triggers: RelativePath | None = None
    promotion_gates: RelativePath | None = None
    governance: Governance = Governance()
    auto_promote: bool | None = Field(
        default=None, description="None: off until a role's first approved promotion, on after it."
    )
    min_new_real_turns: int | None = Field(default=None, ge=1)


class DomainConfig(Block):
    """A domain: one narrow language task, from contract to loop."""

    name: Identifier
    description: str = ""
    owners: list[str] = []
    roles: list[Role] = Field(min_length=1, max_length=16)
    vocab: dict[Identifier, RelativePath | list[str] | Vocabulary] = {}
    data: Data = Data()
    teachers: list[Teacher] = []
    model: Model = Model()
    eval: Eval = Eval()
    serving: Serving = Serving()
    improvement: Improvement = Improvement()


class ConfigFile(Block):
    """The file itself: everything stands under `slm_domain`."""

    slm_domain: DomainConfig
