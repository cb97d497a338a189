"""`slm.config.yaml` as pydantic models: seven blocks and where stages run, unknown keys refused.

Paths are strings relative to the config's folder; `loading` resolves them and refuses what leaves it.
JSON pointers (RFC 6901) address values inside rows, inputs and outputs; `*` stands for each item.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from slm_assets.domain.block import Block, Identifier
from slm_assets.domain.compute import StageRun
from slm_assets.domain.files import Refused, normal
from slm_assets.domain.labels import IncompleteLabels, LabelPolicy
from slm_assets.domain.relabel import Relabel


def _inside(path: str) -> str:
    try:
        return normal(path)
    except Refused as refused:
        parts = {"message": refused.message, **refused.parts}
        raise PydanticCustomError("path", "{message}: {found}", parts) from None


RelativePath = Annotated[str, StringConstraints(min_length=1, max_length=400), AfterValidator(_inside)]
"""Normalised on reading (`./a//b/` is `a/b`); absolute ones, `..` and `~` are refused."""

Pointer = Annotated[str, StringConstraints(pattern=r"^(/[^/]*)*$", max_length=400)]
Share = Annotated[float, Field(ge=0, le=1)]
CatalogPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,199}$")]
"""Where a playbook is in a NoETL server's catalog; not a file."""


# 1. Contracts ------------------------------------------------------------------------------------


class RulesOracle(Block):
    """A declarative oracle: patterns, lexicons and CEL expressions in a YAML file."""

    kind: Literal["rules"] = Field(description="Rules in a file of the domain.")
    path: RelativePath = Field(description="The rules file.")


class PythonOracle(Block):
    """A function `(input: dict) -> dict` in a file of the domain, run in a child process with limits."""

    kind: Literal["python"] = Field(description="A function, where the deployment allows it.")
    path: RelativePath = Field(description="The Python file; it may import the standard library only.")
    function: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")] = Field(
        default="predict", description="Name of the function in that file."
    )
    timeout_s: float = Field(default=5.0, gt=0, le=600, description="Longest time for one input.")
    memory_mb: int = Field(default=512, ge=64, description="Address space of the child process.")


class PlaybookOracle(Block):
    """An oracle that lives in NoETL; `path` is its catalog path, not a file."""

    kind: Literal["playbook"] = Field(description="Answered by a NoETL playbook.")
    path: CatalogPath = Field(description="Catalog path of the playbook.")


Oracle = Annotated[RulesOracle | PythonOracle | PlaybookOracle, Field(discriminator="kind")]


class Role(Block):
    """One model task: what goes in, what must come out, and who answers it without a model."""

    id: Identifier = Field(description="Name of the role, unique in the domain.")
    description: str = Field(default="", description="What the role does, for people.")
    reads: list[Identifier] = Field(
        default=[],
        description="Earlier roles whose outputs this role gets; its input is then "
        "{turn: <the turn>, <role>: <its output>, …}. Empty: its input is the turn itself.",
    )
    input_schema: RelativePath | None = Field(
        default=None, description="JSON Schema (2020-12 or draft-07) of the input; None: any JSON."
    )
    output_schema: RelativePath = Field(description="JSON Schema (2020-12 or draft-07) of the output.")
    system_prompt: RelativePath | None = Field(default=None, description="Prompt file for language models.")
    decoding_grammar: RelativePath | None = Field(
        default=None, description="JSON Schema or GBNF; default: the output schema."
    )
    deterministic_oracle: Oracle | None = Field(default=None, description="None: the floor is the majority baseline.")


class Vocabulary(Block):
    """A closed list of values and the place in a role's output where they occur."""

    role: Identifier = Field(description="The role that emits the values.")
    path: Pointer = Field(description="Where they stand in its output.")
    file: RelativePath | None = Field(default=None, description="JSON list; default: the contract's enum.")


# 2. Data -----------------------------------------------------------------------------------------


class RowFields(Block):
    """Where a row of the corpus keeps its parts. A mapping builds an object from several places."""

    id: Pointer | None = Field(
        default="/id", description="The row's id. None, or absent in a row: the content's digest."
    )
    input: Pointer | dict[str, Pointer] = Field(default="/input", description="The turn.")
    labels: Pointer | dict[str, Any] = Field(
        default="/labels", description="Object of role → output, or a mapping of role → pointer or template."
    )
    label_source: Pointer | None = Field(
        default="/label_source", description="gold (default where labels are given), reviewed or outcome."
    )
    spans: dict[Identifier, Pointer] = Field(
        default={},
        description="Role to a list of [name, start, end]: the pieces of text that its values stand at, for span_f1.",
    )


class Split(Block):
    """How rows are assigned to train, validation and eval; assignments never move."""

    kind: Literal["grouped", "fixed"] = Field(
        default="grouped",
        description="fixed: seed_corpus is train and eval.eval_sets.holdout is eval, as they are.",
    )
    eval_ratio: Share = Field(default=0.2, description="Share of the groups that go to eval.")
    validation_ratio: Share = Field(default=0.1, description="Share of the rest that goes to validation.")
    seed: str = Field(default="slm", description="Another seed is another split.")
    group_by: list[Pointer] = Field(
        default=[], description="Rows that share a value at any of these places stay together."
    )


class NearDuplicates(Block):
    """What counts as nearly the same: equal structured part, and text this similar."""

    threshold: Share = Field(default=0.8, description="Jaccard similarity of the word sets.")
    min_words: int = Field(default=4, ge=1, description="Shorter texts are compared exactly.")


class EventLogReplay(Block):
    """Turns of the consuming playbook, read through the NoETL server's API by `slm replay`."""

    scope: Annotated[str, StringConstraints(pattern=r"^([^=/\s]+=[^=/\s]+(/[^=/\s]+=[^=/\s]+)*)?$")] = Field(
        default="", description="Such as tenant=<org>/project=<domain>: only executions whose workload says so."
    )
    via: Literal["server_api"] = Field(default="server_api", description="How the log is read.")
    status: Literal["enabled", "disabled"] = Field(default="enabled", description="Whether it is read.")
    path: CatalogPath | None = Field(default=None, description="Catalog path of the playbook; default: all.")
    extract_node: str | None = Field(
        default=None, description="The step whose results are turns; default: one turn of each execution's workload."
    )
    redaction: Literal["pii"] | None = Field(
        default=None, description="pii: by data.redaction_policy, which is applied in any case."
    )
    cap_turns: int | None = Field(default=None, ge=1, description="Most turns taken per reading; default: 10,000.")


def _split_shorthand(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class Data(Block):
    """Where the rows come from. A folder means all its .jsonl, .jsonl.gz and .parquet files."""

    seed_corpus: RelativePath | list[RelativePath] | None = Field(default=None, description="Files or folders of rows.")
    adversarial: RelativePath | list[RelativePath] | None = Field(
        default=None, description="Rows made to be hard; marked as such in the dataset."
    )
    event_log_replay: EventLogReplay | None = Field(default=None, description="Turns from NoETL.")
    redaction_policy: RelativePath | None = Field(
        default=None, description="What is removed from captured turns; default: the built-in policy."
    )
    fields: RowFields = Field(default=RowFields(), description="Where a row keeps its parts.")
    split: Annotated[
        Split, BeforeValidator(_split_shorthand, json_schema_input_type=Split | Literal["grouped", "fixed"])
    ] = Field(default=Split(), description="Train, validation and eval; a bare word is its kind.")
    near_duplicates: NearDuplicates = Field(default=NearDuplicates(), description="What counts as nearly the same row.")
    max_quarantine_share: Share = Field(default=0.05, description="Dataset stops when more rows are unusable.")
    incomplete_labels: IncompleteLabels = "quarantine"
    max_row_bytes: int = Field(default=4_000_000, ge=1_000, description="Longer rows go to quarantine.")


# 3. Teachers -------------------------------------------------------------------------------------


class Price(Block):
    """US dollars per million tokens."""

    input: float = Field(ge=0, description="US dollars per million tokens read.")
    output: float = Field(ge=0, description="US dollars per million tokens written.")


CloudName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,60}$")]


class Vertex(Block):
    """Where a Vertex AI model lives."""

    project: CloudName = Field(description="Google Cloud project.")
    region: CloudName = Field(default="us-central1", description="Google Cloud region.")


class Teacher(Block):
    """A larger model that labels and marks the ceiling, behind any OpenAI-compatible endpoint.

    `credential` is an alias, never a secret. The deployment lists the hosts that may be asked (SLM_TEACHER_HOSTS).
    """

    id: Identifier = Field(description="Name of the teacher, unique in the domain.")
    status: Literal["enabled", "disabled"] = Field(default="enabled", description="Whether it is asked.")
    kind: Literal["http", "openai"] = Field(
        default="http", description="Protocol of the endpoint: both are OpenAI's chat completions."
    )
    provider: str | None = Field(
        default=None,
        description="Vendor, where the protocol or the address varies by it: openai, anthropic, gemini, vertex_gemini.",
    )
    vertex: Vertex | None = Field(default=None, description="Where a Vertex AI model lives.")
    base_url: str | None = Field(
        default=None,
        description="Endpoint up to and with its /v1, without credentials in it; default: that of the provider.",
    )
    credential: str | None = Field(
        default=None,
        description='Alias of the secret, such as "{{ teacher_token }}"; never the secret. None: no token is sent.',
    )
    model: str | None = Field(default=None, description="Model of every role not named in `models`.")
    models: dict[str, str] = Field(
        default={},
        description="Role to model; `fallback` is the model that is asked where the role's own gave no usable answer.",
    )
    role_prompts: dict[Identifier, RelativePath] = Field(
        default={}, description="Role to prompt file; default: the role's system_prompt."
    )
    constrained_decoding: bool = Field(
        default=True,
        description="Send the contract as response schema; a server that refuses it is asked for any JSON.",
    )
    pricing: dict[str, Price] = Field(
        default={}, description="Model to price. A model without one costs nothing in `usd`; its tokens count."
    )
    request_sleep_s: float = Field(default=0.0, ge=0, description="Pause between two requests.")
    concurrency: int = Field(default=4, ge=1, le=64, description="Most requests at once.")
    timeout_s: float = Field(default=60.0, gt=0, le=3600, description="Longest time for one answer.")
    deadline_s: float = Field(
        default=3600.0, gt=0, description="Longest time for all questions of a stage; it then goes on with what it has."
    )
    max_output_tokens: int = Field(
        default=1024, ge=1, le=65536, description="Most tokens of an answer; set aside of the budget for each request."
    )
    note: str = Field(default="", description="For people.")


# 4. Model ----------------------------------------------------------------------------------------

Recipe = Literal["linear", "encoder", "cascade", "auto", "lora", "qlora", "full"]


class Model(Block):
    """What is trained, and how."""

    status: Literal["enabled", "deferred"] = Field(default="enabled", description="deferred: no challenger is trained.")
    base_family: str | None = Field(
        default=None, description="qwen2.5, llama-3.2, phi-3.5, smollm2, or a path; for language models."
    )
    base_size: str | None = Field(default=None, description='Such as "1.5B".')
    candidates: list[str] = Field(default=[], description="Base models to compare.")
    recipe: Recipe = Field(default="linear", description="The rung of the ladder; auto climbs.")
    hyperparams: RelativePath | dict[str, Any] | None = Field(
        default=None, description="A YAML file, or the values themselves."
    )
    role_layout: Literal["single_multitask", "per_role"] = Field(
        default="per_role", description="One language model for all roles, or one for each."
    )
    note: str = Field(default="", description="For people.")


# 5. Gates ----------------------------------------------------------------------------------------


class Metric(Block):
    """A gated number. With `path`: exact match at that place of the role's output, mean over rows; of kind
    span_f1: F1 of the pieces of text that the values under that place were read from (benchmarks only).

    Without: a built-in of the same name (`exact`, `turn_exact`, `output_validity`, `latency_p50_ms`,
    `latency_p95_ms`, `checkpoint_bytes`).
    """

    id: Identifier = Field(description="Name of the metric; without `path` that of a built-in.")
    role: Identifier | None = Field(default=None, description="The role measured; default: each.")
    kind: Literal["match", "span_f1"] = Field(
        default="match",
        description="match: equal to the label. span_f1: read from the right piece of text; needs data.fields.spans.",
    )
    path: Pointer | None = Field(default=None, description="Place in the role's output that must match.")
    absent: Any = Field(default=None, description="What an absent value counts as.")
    target: float | None = Field(default=None, description="What must be reached; 1.0 means on every row.")
    target_relative: Annotated[str, StringConstraints(pattern=r"^(<=|>=) ?(ceiling|floor)$")] | None = Field(
        default=None, description='Such as "<= ceiling".'
    )
    margin: Share | None = Field(default=None, description="Overrides the policy's margin.")
    primary: bool = Field(default=False, description="The metric on which a challenger must not be worse.")
    schema_valid: Share | None = Field(default=None, description="Share of outputs that must also meet the contract.")
    enforced_by: Literal["grammar", "schema"] | None = Field(
        default=None, description="What makes the target hold by construction; it is measured all the same."
    )


class Slice(Block):
    """Rows that matter on their own: those whose input has one of these values at `path`."""

    id: Identifier = Field(description="Name of the slice, unique in the domain.")
    path: Pointer = Field(description="Into {input, labels, source, id} of a row.")
    values: list[Any] = Field(default=[], description="Empty: the path exists.")
    critical: bool = Field(default=False, description="Critical slices gate; the others warn.")
    min_n: int = Field(default=30, ge=1, description="Fewer eval rows than this decide nothing.")


class EvalSets(Block):
    """Given eval rows: `holdout` is always eval; `golden_replay` grows with reviewed turns."""

    holdout: RelativePath | list[RelativePath] | None = Field(
        default=None, description="Files or folders whose rows are always eval."
    )
    golden_replay: RelativePath | list[RelativePath] | None = Field(
        default=None, description="Files or folders of reviewed real turns; always eval."
    )


class Eval(Block):
    """What is measured and what is demanded."""

    candidate: str | None = Field(default=None, description="What is measured; default: the challenger.")
    floor: Literal["deterministic_oracle", "majority"] = Field(
        default="deterministic_oracle", description="What a challenger must not be worse than."
    )
    ceiling: str | None = Field(
        default=None, description="teacher.<id>: measured on the eval rows, as far above the floor as it gets."
    )
    baseline: str | None = Field(
        default=None,
        description="teacher.<id> that stands for the base model without fine-tuning, at an endpoint of its own.",
    )
    ceiling_rows: int = Field(
        default=500, ge=1, description="Most eval rows that ceiling and baseline are asked, drawn by hash."
    )
    metrics: list[Metric] = Field(default=[], description="The gated numbers.")
    eval_sets: EvalSets = Field(default=EvalSets(), description="Given eval rows.")
    slices: list[Slice] = Field(default=[], description="Rows that matter on their own.")
    certify: Literal["warn", "strict"] = Field(
        default="warn", description="strict: refuse targets that the eval set is too small to certify."
    )


# 6. Serving --------------------------------------------------------------------------------------


class ModelServer(Block):
    """An OpenAI-compatible server (vLLM, Ollama, llama.cpp) that answers for the promoted release.

    It must serve the release under the name `<domain>-<first 12 characters of its digest>`.
    """

    base_url: str = Field(description="Endpoint up to and with its /v1; its host is listed in SLM_TEACHER_HOSTS.")
    credential: str | None = Field(default=None, description="Alias of its token; None: no token is sent.")
    concurrency: int = Field(default=4, ge=1, le=64, description="Most requests at once.")
    timeout_s: float = Field(default=10.0, gt=0, le=3600, description="Longest time for one answer.")
    max_output_tokens: int = Field(default=1024, ge=1, le=65536, description="Most tokens of an answer.")


class Serving(Block):
    """Where the model answers."""

    status: Literal["enabled", "deferred"] = Field(
        default="enabled", description="deferred: released but never deployed."
    )
    target: Literal["cpu", "gpu"] = Field(default="cpu", description="Where it runs.")
    quantization: Literal["none", "int8", "gguf"] = Field(default="none", description="Of a language model's weights.")
    consuming_playbook: RelativePath | None = Field(
        default=None, description="The playbook that asks the model: a file, or a NoETL catalog path."
    )
    engine_flags: dict[Identifier, str] = Field(
        default={}, description="Role to the flag of the consuming playbook that picks its engine."
    )
    endpoint: ModelServer | None = Field(
        default=None, description="Where a release is answered for; default: in the service's own process."
    )
    teacher: Identifier | None = Field(
        default=None, description="The teacher that answers for roles whose engine flag is `teacher` (`slm teacher`)."
    )
    fallback_below: Share | None = Field(
        default=None, description="A model less confident than this is answered for by the oracle; default: never."
    )


# 7. Improvement ----------------------------------------------------------------------------------


class Capture(Block):
    """What is kept of live traffic."""

    sample_rate: Share = Field(default=0.1, description="Share of the turns kept at random.")
    outcome_signals: list[str] = Field(
        default=[], description="Events that say how a turn ended; such turns are always kept."
    )
    retention_days: int = Field(default=90, ge=1, description="Captured turns are forgotten after so many days.")


class Governance(Block):
    """Who owns the results and what they may cost."""

    registry_namespace: Annotated[str, StringConstraints(pattern=r"^[^/\s]+/[^/\s]+$")] | None = Field(
        default=None, description="<tenant>/<project> of every registry entry."
    )
    cost_budget: RelativePath | None = Field(default=None, description="Budget file.")


HandedOff = Literal["dataset", "labels", "challenger", "eval_report", "release", "shadow_report", "deployment", "flip"]


class Handoffs(Block):
    """What a NoETL server is told of each finished asset and each flip, once the deployment names a server."""

    registry: bool = Field(default=True, description="Enter artifacts and flips into the server's registry.")
    playbooks: dict[HandedOff, CatalogPath] = Field(
        default={},
        description="Asset, or `flip` of a flag, to the catalog path of a playbook to execute with the handoff.",
    )


class Improvement(Block):
    """The loop."""

    status: Literal["enabled", "deferred"] = Field(
        default="enabled", description="deferred: nothing is retrained by itself."
    )
    capture: Capture | None = Field(default=None, description="What is kept of live traffic.")
    relabel: Relabel = Field(default=Relabel(), description="Which live turns the next version learns from.")
    schedule: str | None = Field(default=None, description="Cron, five fields.")
    retrain_triggers: RelativePath | None = Field(default=None, description="Policy of the triggers.")
    promotion_gates: RelativePath | None = Field(
        default=None, description="Policy of the gates; default: the built-in one."
    )
    governance: Governance = Field(default=Governance(), description="Owners of results, budget.")
    handoffs: Handoffs = Field(default=Handoffs(), description="What a NoETL server is told.")
    auto_promote: bool | None = Field(
        default=None, description="None: off until a role's first approved promotion, on after it."
    )
    min_new_real_turns: int | None = Field(default=None, ge=1, description="New captured turns that start a retrain.")
    simulation: RelativePath | None = Field(
        default=None, description="Scenarios of traffic for `slm simulate`; data, and no part of what is built."
    )


class DomainConfig(Block):
    """A domain: one narrow language task, from contract to loop."""

    name: Identifier = Field(description="Name of the domain; its folder has the same.")
    description: str = Field(default="", description="What the task is, for people.")
    owners: list[str] = Field(default=[], description="Who answers for it: e-mail addresses or teams.")
    roles: list[Role] = Field(min_length=1, max_length=16, description="The model tasks, in order.")
    vocab: dict[Identifier, RelativePath | list[str] | Vocabulary] = Field(
        default={}, description="Closed lists: a file, the values, or a place in a role's contract."
    )
    data: Data = Field(default=Data(), description="Where the rows come from.")
    teachers: list[Teacher] = Field(default=[], description="Larger models that label.")
    labels: LabelPolicy = Field(default=LabelPolicy(), description="Whose answer becomes a row's label.")
    model: Model = Field(default=Model(), description="What is trained, and how.")
    eval: Eval = Field(default=Eval(), description="What is measured and what is demanded.")
    serving: Serving = Field(default=Serving(), description="Where the model answers.")
    improvement: Improvement = Field(default=Improvement(), description="The loop.")
    stages: dict[Identifier, StageRun] = Field(
        default={}, description="Stage to where it runs; a stage that is not named runs in process."
    )


class ConfigFile(Block):
    """The file itself: everything stands under `slm_domain`."""

    slm_domain: DomainConfig = Field(description="The domain.")


def config_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `slm.config.yaml`, for editors: `slm schema` prints it."""
    schema = ConfigFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "slm.config.yaml"}
