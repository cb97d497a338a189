"""Write docs/config/*.md from the config's models and docs/cli.md from the commands: `python docs/generate.py`.

A test says when a page is stale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from slm_assets.cli.commands import app
from slm_assets.domain.budget import Budget
from slm_assets.domain.cluster import Cluster
from slm_assets.domain.config import DomainConfig
from slm_assets.domain.keys import READERS, WAITS, walk
from slm_assets.domain.ladder import Auto, Cascade
from slm_assets.domain.policies import PromotionGates
from slm_assets.domain.redaction import RedactionPolicy
from slm_assets.domain.simulation import Simulation
from slm_assets.domain.triggers import RetrainTriggers
from slm_assets.models import rules

DOCS = Path(__file__).parent
HEAD = """# Config

`domains/<name>/slm.config.yaml` has one top key, `slm_domain`. Unknown keys are refused, with the nearest right
one named; `slm validate` shows every fault at once, and `slm schema` prints the JSON Schema for editors. Paths are
relative to the folder and never leave it. Pointers are JSON pointers (RFC 6901), `*` stands for each item.

| block | says |
|---|---|
| [`roles`](roles.md) | the tasks, their contracts, and who answers without a model |
| [`data`](data.md) | where the rows come from, and how they are split |
| [`teachers`, `labels`](teachers.md) | larger models that label, and whose answer becomes a label |
| [`model`](model.md) | what is trained, and how |
| [`eval`](eval.md) | what is measured, and what is demanded |
| [`serving`](serving.md) | where the model answers |
| [`improvement`](improvement.md) | when a version is promoted, and by which [gate policy](policies.md) |
| [`stages`](stages.md) | where a stage runs: here, or handed to NoETL |

Keys marked *validated only* are checked and kept, and wait for the capability that reads them.

Only `name` and one role with an `output_schema` must be there:

```yaml
slm_domain:
  name: it_desk
  roles:
    - {id: triage, output_schema: contracts/ticket.schema.json}
  data: {seed_corpus: seed/}
```
"""
INTRO = {
    "roles": """# Roles

A role is one model task. The contract is a JSON Schema of what it must answer; the `validity` gate lets no model pass
that breaks it. A role that `reads` earlier ones gets `{turn: …, <role>: its output}`. The `deterministic_oracle`
answers without a model: it is the floor, the fallback, and a source of labels where rows bring none.

```yaml
roles:
  - id: triage
    input_schema: contracts/message.schema.json
    output_schema: contracts/ticket.schema.json
    deterministic_oracle: {kind: rules, path: oracle/triage.rules.yaml}
```

""",
    "data": """# Data

Rows are JSON objects, one a line (`.jsonl`, `.jsonl.gz`), or Parquet. `fields` says where a row keeps its parts, so
that a corpus can stay as it is. Name in `split.group_by` whatever makes rows say the same thing in the same words: a
template, a conversation, a source. Groups are what the gates count.

```yaml
data:
  seed_corpus: seed/
  fields: {id: /id, input: /input, labels: /labels}
  split: {eval_ratio: 0.2, validation_ratio: 0.1, group_by: [/conversation]}
```

""",
    "teachers": """# Teachers

Larger models that label rows and mark the ceiling; [teachers](../teachers.md) explains them. A credential is the alias
of a secret, never the secret.

```yaml
teachers:
  - {id: large, base_url: "https://models.example.org/v1", credential: "{{ teacher_token }}", model: big}
labels: {teacher: large, order: [agreed, oracle]}
```

""",
    "model": """# Model

`hyperparams` may hold a block per recipe; what stands beside the blocks belongs to the config's own recipe, and under
`cascade` and `auto` to their first rung. [The ladder](../ladder.md) explains both, and
[their keys](ladder.md) are listed apart.

```yaml
model:
  recipe: auto
  hyperparams:
    auto: {rungs: [linear, cascade, encoder]}
    cascade: {rungs: [linear, encoder]}
    linear: {char_ngrams: 5}
```

""",
    "eval": """# Eval

A metric with a `path` is exact match at that place of the role's output; its `target` is judged by the bound of its
interval, not by the point. The `primary` one is what a challenger must not be proven worse on.
[Gates](../gates.md) says what each verdict means, and how many groups a target or margin needs.

```yaml
eval:
  metrics:
    - {id: topic, role: triage, path: /topic, target: 0.85, primary: true}
    - {id: output_validity, target: 1.0}
  slices:
    - {id: urgent, path: /labels/triage/urgent, values: [true], critical: true, min_n: 60}
```

""",
    "serving": """# Serving

```yaml
serving:
  target: cpu
  engine_flags: {triage: triage_engine}
```

""",
    "improvement": """# Improvement

Nothing is promoted by itself until a role's first promotion was approved by name; `auto_promote` changes that.

```yaml
improvement:
  promotion_gates: policies/promotion_gates.yaml
  governance: {registry_namespace: acme/desk}
```

""",
    "stages": """# Stages

Where a stage runs, by its name; one that is not named runs in process. [NoETL](../noetl.md) and
[Kubernetes](../kubernetes.md) say what the engines do.
The same block, in a file of its own, tells `slm playbooks emit --compute` what containers get.

```yaml
stages:
  finetune: {engine: noetl, timeout_s: 7200}
```

""",
}
REDACTION = """\
# Redaction policy

What other people's turns lose before they are stored. `data.redaction_policy` names a YAML file of these keys, at its
top level; without one everything below is masked. What is found is replaced by its kind: `[email]`. Every string, key
and long number is looked through, also in full-width digits or with invisible characters between. What is given back
holds nothing that would be found again, and has the shape that it had. A turn that cannot be redacted, whatever the
reason, is dropped and counted.

Recognised, with what was [measured](../results.md#redaction):

- **By check digits or a form of their own:** mail addresses, payment cards, IBANs, internet addresses, numbers of
  persons (United States, United Kingdom, Spain, Italy, France, Germany, Brazil, Sweden and Finland), keys, tokens
  and URLs with credentials.
- **Phone numbers** as people write them, valid or not: with a plus or 00, with the zero before an area code, in
  brackets, in North American groups, ten bare digits of that plan; other national numbers of `regions` if their
  plan knows them. Bare digits after *order*, *invoice*, *ticket* and the like stay. Padded numbers (`0012345678`)
  with no such word before them go, and so do ten digits that could be a phone number.
- **Street addresses** in the forms of English, German, French and Spanish: a street with a house number, post
  boxes, and the line with code and city behind them. A street without a number stays, and so does a form of another
  language.
- **Names of people** after an introduction (*my name is*, *ich heiße*, …), a title, a greeting, a closing or a
  label, and a first name of a list before another capitalised word, or a capitalised word before a surname of a
  list. Not recognised: a name in no list in the middle of a sentence, a single name there, names in lower case that
  nothing introduces, and scripts without capitals.
- **Places:** the values of `keys` and `fields`, whatever they are. It is the sure way for names: list the keys in
  which your application keeps them.

A model is trained on its rows as they are and may be asked what was redacted: `benchmarks/redaction.py` measures what
it loses. Where names are what a domain extracts (`name: keep`), or ten digits are its order numbers (`phone: keep`),
say so.

```yaml
name: keep
keys: [first_name, last_name, phone, email]
fields: [/customer/called, /thread/*/author]
```

"""

SIMULATION = """\
# Scenarios

The file behind `improvement.simulation`; [simulation](../simulation.md) explains it. It is checked with the config,
and is no part of what is built: another scenario opens no new version.

```yaml
pools:
  known: {rows: simulation/known.jsonl.gz}
outcomes:
  usual:
    right: {success: 0.1}
    wrong: {correction: 0.2, retry: 0.1}
scenarios:
  steady:
    about: Traffic as the corpus has it.
    phases:
      - {id: steady, turns: 1000, mix: [{pool: known, outcomes: usual}]}
```

"""

POLICIES = """# Gate policy

The file behind `improvement.promotion_gates`. Without one these defaults hold; [gates](../gates.md) explains them.

```yaml
margin: 0.03
latency: budget
latency_p95_ms: 25
per_role:
  triage: {margin: 0.05}
```

"""
TRIGGERS = """# Trigger policy

The file behind `improvement.retrain_triggers`. Without one these defaults hold; [the loop](../loop.md) explains them.

```yaml
quality: {reference: outcome, drop: 0.02}
staleness: {days: 14}
cooldown_hours: 6
```

"""
BUDGET = """# Budget

The file behind `improvement.governance.cost_budget`. A resource without a limit is not counted. What a stage is
expected to cost is set aside before it, by the dearest of its last five versions, and settled by its receipt after it;
over the limit it waits for the next window of the calendar. [The loop](../loop.md#budget) explains it.

```yaml
cpu_minutes: {limit: 600, window: week}
gpu_minutes: {limit: 240, window: month}
storage_gb: {limit: 20, window: month}
prices: {cpu_minute: 0.0008, gpu_minute: 0.04}   # what the ladder's table counts with
```

"""
LADDER = """# Ladder

Blocks of `model.hyperparams`, there or in the file that it names; [the ladder](../ladder.md) explains them. A rung is
the name of a recipe, or a block of its own.

```yaml
cascade:
  rungs: [{recipe: linear, name: words, hyperparams: {char_weight: 0}}, encoder]
  max_loss: 0.01
auto:
  rungs: [linear, cascade, encoder]
```

"""
CLUSTER = """# Cluster

The file behind `SLM_CLUSTER`: what a deployment gives the [pods of stages](../kubernetes.md). Without one these
defaults hold.

```yaml
container: {image: registry.example/slm:1, namespace: ml}
secrets: slm-credentials
```

"""
RULES = """# Rules

A `deterministic_oracle` of kind `rules` is a YAML file, and no code:

```yaml
patterns:
  tag: {path: /text, regex: "\\\\b[a-z]{2}-[0-9]{4}\\\\b", take: first}
  now: {path: /text, regex: "\\\\b(urgent|asap)\\\\b", take: first}
rules:
  - {id: tagged, when: "tag != null", then: {topic: hardware, urgent: "=now != null", asset: "=tag"}}
default: {topic: software, urgent: "=now != null", asset: null}
```

"""
CLI = """# Commands

`slm COMMAND --help` says the same. State lives in `SLM_HOME` (default `./.slm`), domains in `SLM_DOMAINS` (default
`./domains`); see [operations](operations.md) for the other variables.

Exit codes: 0 done, 1 a fault, 2 bad input, 3 a gate said no, 4 it waits for an approval or for budget.

"""
BESIDE = {"vocab": "roles", "labels": "teachers"}
"""Blocks without a page of their own, and the page where they stand."""


def pages() -> dict[Path, str]:
    """Every generated page: path under docs/ → text."""
    found = {Path("config/index.md"): _index(), Path("config/policies.md"): _policies(), Path("cli.md"): _commands()}
    found |= {Path("config/redaction.md"): _redaction(), Path("config/triggers.md"): _triggers()}
    found[Path("config/simulation.md")] = _simulation()
    found |= {Path("config/rules.md"): _rules(), Path("config/budget.md"): _budget()}
    found |= {Path("config/cluster.md"): _cluster(), Path("config/ladder.md"): _ladder()}
    for block, intro in INTRO.items():
        found[Path(f"config/{block}.md")] = intro + _tables(lambda key, block=block: _page(key) == block)
    return found


# Config ---------------------------------------------------------------------------------------------


def _index() -> str:
    return HEAD + "\n" + _tables(lambda key: _page(key) not in INTRO)


def _policies() -> str:
    return POLICIES + _sections(list(walk(PromotionGates)), set())


def _redaction() -> str:
    return REDACTION + _sections(list(walk(RedactionPolicy)), set())


def _triggers() -> str:
    return TRIGGERS + _sections(list(walk(RetrainTriggers)), set())


def _budget() -> str:
    return BUDGET + _sections(list(walk(Budget)), set())


def _cluster() -> str:
    return CLUSTER + _sections(list(walk(Cluster)), set())


def _ladder() -> str:
    blocks = ((name, _sections(list(walk(model)), set())) for name, model in (("cascade", Cascade), ("auto", Auto)))
    return LADDER + "\n".join(f"## {name}\n\n{text}" for name, text in blocks)


def _simulation() -> str:
    return SIMULATION + _sections(list(walk(Simulation)), set())


def _rules() -> str:
    """The format as its own module describes it, from the second paragraph on."""
    text = (rules.__doc__ or "").partition("\n\n")[2].strip()
    return RULES + re.sub(r"(?m)(?:^    .*\n)+", lambda found: _fenced(found.group()), text) + "\n"


def _fenced(block: str) -> str:
    return "```text\n" + "".join(line[4:] for line in block.splitlines(keepends=True)) + "```\n"


def _page(key: str) -> str:
    block = re.split(r"[.\[]", key)[0]
    return BESIDE.get(block, block)


def _tables(wanted: Any) -> str:
    waits = {key.removeprefix("slm_domain.") for key, reader in READERS.items() if reader.startswith(WAITS)}
    return _sections([(key, field) for key, field in walk(DomainConfig) if wanted(key)], waits)


def _sections(fields: list[tuple[str, FieldInfo]], waits: set[str]) -> str:
    """One table per block of keys, under the block's own key."""
    sections: dict[str, list[str]] = {}
    title = ""
    for key, field in fields:
        parent = key.rpartition(".")[0]
        kinds = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        if key.endswith(".kind") and len(kinds) == 1:
            title = f"`{parent}`, kind `{kinds[0]}`"
        elif not title.startswith(f"`{parent}`"):
            title = f"`{parent}`" if parent else ""
        note = _escaped(field.description)
        note += " *validated only*" if key in waits else ""
        name = key.rpartition(".")[2]
        line = f"| `{name}` | {_kind(field.annotation)}{_range(field)} | {_default(field)} | {note.strip()} |"
        sections.setdefault(title, []).append(line)
    return "\n".join(
        line
        for title, rows in sections.items()
        for line in (
            *([f"## {title}", ""] if title else []),
            "| key | type | default | |",
            "|---|---|---|---|",
            *rows,
            "",
        )
    )


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(a) for a in arguments if a is not NoneType))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return f"map to {_kind(arguments[1])}"
    if origin is not None and arguments:
        return _kind(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "block"
    names = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Any": "any value"}
    return names.get(getattr(annotation, "__name__", str(annotation)), str(annotation))


def _range(field: FieldInfo) -> str:
    """The bounds of a number, such as `, 0 to 1`."""
    bounds = {name: getattr(part, name) for part in _constraints(field) for name in _SIGNS if hasattr(part, name)}
    bounds = {name: value for name, value in bounds.items() if value is not None}
    if set(bounds) == {"ge", "le"}:
        return f", {bounds['ge']} to {bounds['le']}"
    return "".join(f", {_SIGNS[name]} {value}" for name, value in bounds.items())


_SIGNS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _constraints(field: FieldInfo) -> Iterator[Any]:
    yield from field.metadata
    for part in get_args(field.annotation):
        if get_origin(part) is Annotated:
            for constraint in get_args(part)[1:]:
                yield from constraint.metadata if isinstance(constraint, FieldInfo) else [constraint]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value in (None, "", [], {}, PydanticUndefined) or isinstance(value, BaseModel):
        return ""
    if isinstance(value, list):
        return "all" if value == list(get_args(get_args(field.annotation)[0])) else ", ".join(f"`{v}`" for v in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# Commands -------------------------------------------------------------------------------------------


def _commands() -> str:
    root = typer.main.get_command(app)
    return CLI + "\n".join(line for words, command in _walk(root, "slm") for line in _command(words, command))


def _walk(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, as typed, in the order of the help."""
    children = getattr(command, "commands", {})
    if not children:
        yield words, command
    for name, child in children.items():
        if not child.hidden:
            yield from _walk(child, f"{words} {name}")


def _command(words: str, command: Any) -> list[str]:
    shown = [p for p in command.params if not getattr(p, "hidden", False)]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    options = [p for p in shown if p.param_type_name == "option" and "--help" not in p.opts]
    usage = " ".join([words, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## `{words}`", "", f"`{usage}`", "", _prose(command.help or ""), ""]
    if arguments or options:
        lines += ["| | | |", "|---|---|---|"]
        lines += [f"| `{_metavar(p)}` | {_needed(p)} | {_escaped(p.help)} |" for p in arguments]
        lines += [f"| {_spelled(p)} | {_needed(p)} | {_escaped(p.help)} |" for p in options]
        lines.append("")
    return lines


def _prose(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).upper()


def _argument(parameter: Any) -> str:
    name = _metavar(parameter) + ("…" if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _spelled(option: Any) -> str:
    value = "" if option.is_flag else f" {option.name.upper()}"
    repeated = " (repeatable)" if option.multiple else ""
    return ", ".join(f"`{name}{value}`" for name in option.opts) + repeated


def _needed(parameter: Any) -> str:
    if parameter.required:
        return "required"
    plain = isinstance(parameter.default, str | int | float) and not isinstance(parameter.default, bool)
    return f"`{parameter.default}`" if plain and parameter.default != "" else ""


def _escaped(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write every page."""
    for path, text in pages().items():
        (DOCS / path).parent.mkdir(exist_ok=True)
        (DOCS / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
