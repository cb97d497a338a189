"""The linter finds each planted fault, nothing in playbooks that run, and never falls over."""

import json
import re
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from slm_assets.cli import main
from slm_assets.noetl.lint import RULES, UnreadableError, lint_paths, lint_text, rules_page
from slm_assets.noetl.lint_rules.rule import words

BOOKS = Path(__file__).parent / "playbooks"
TEXTS = {path.stem: path.read_text() for path in sorted(BOOKS.glob("*.yaml"))}
SHELL = "tool: {kind: shell, cmds: ['exit 64'], command: 'exit 64'}"

# playbook, what stands there, what is written in its place, the rule, the step
FAULTS = [
    # YAML
    ("job", "name: fit\n", "name: [fit\n", "yaml-broken", None),
    ("job", "mode: local\n", "mode: local\n  mode: container\n", "yaml-duplicate-key", None),
    ("job", "claim: fit-data", "claim: !secret fit-data", "yaml-tag", None),
    ("job", "  mode: local\n", "  <<: {mode: local}\n", "yaml-merge-key", None),
    ("job", "\"{{ workload.mode == 'local' }}\"", "{{ workload.mode }}", "template-unquoted", None),
    ("job", "claim: fit-data", "claim: " + "[" * 80 + "]" * 80, "yaml-too-large", None),
    ("job", "claim: fit-data", "claim: &a [*a]", "yaml-too-large", None),
    # head
    ("stage", "noetl.io/v2", "noetl.io/v1", "api-version", None),
    ("stage", "apiVersion: noetl.io/v2\n", "", "api-version", None),
    ("stage", "kind: Playbook", "kind: Banana", "kind", None),
    ("stage", "  name: nightly_rows\n", "", "metadata-name", None),
    ("stage", "  path: shop/stages/rows\n", "  path: shop/stages/rows\n  version: 3\n", "metadata-version", None),
    ("stage", "team: data", "team: 7", "metadata-labels", None),
    ("stage", "team: data", "team: -data-", "label-limits", None),
    ("stage", "team: data", f"team: {'d' * 64}", "label-limits", None),
    ("stage", "shop.example/tier", "Shop_Example/tier", "label-limits", None),
    ("stage", "workload:\n", "schedule: '0 3 * * *'\nworkload:\n", "root-unknown-key", None),
    ("stage", "  limit: 100\n", "  limit: 100\n  db_password: hunter2!\n", "secret-in-playbook", None),
    ("stage", "  limit: 100\n", "  url: postgres://u:hunter2@db/x\n  limit: 100\n", "secret-in-playbook", None),
    ("job", 'value: "{{ execution_id }}"', "value: AKIAABCDEFGHIJKLMNOP", "secret-in-playbook", "fit_job"),
    ("stage", "profile: local", "profile: banana", "executor-profile", None),
    ("stage", "tools: [shell]", "tools: [shell, container]", "executor-requires", None),
    ("conductor", "final_step: end", "final_step: ending", "executor-step", None),
    ("conductor", "  suffix: .yaml", "  suffix: ''", "playbook-path-locally", "rows"),
    ("conductor", "entry_step: start", "entry_step: rows", "entry-differs", None),
    ("stage", "- name: warehouse\n", "- alias: warehouse\n", "keychain-shape", None),
    ("conductor", "registry://shop/main/model/fit/latest", "noetl://shop/main/models/fit/3", "noetl-uri", None),
    ("conductor", "model/fit/latest", "checkpoint/fit/latest", "registry-uri", None),
    ("conductor", "model/fit/latest", "model/fit/v3", "registry-uri", None),
    # graph
    ("stage", "- step: start\n", "- step: begin\n", "start-step", None),
    ("stage", "- step: failed\n  tool", "- name: failed\n  tool", "step-shape", None),
    ("stage", "- step: failed\n  tool", "- step: verify\n  tool", "step-duplicate", "verify"),
    ("job", "next: [{step: verify}]", "next: verify", "next-dropped-locally", "fit_here"),
    ("job", "next: [{step: verify}]", "next: [verify]", "next-dropped-locally", "fit_here"),
    ("job", "next: [{step: verify}]", "next: {step: verify}", "next-shape", "fit_here"),
    ("job", "next: [{step: verify}]", "next: [{step: verify}, end]", "next-shape", "fit_here"),
    ("job", "next: [{step: verify}]", "next: {arcs: {step: verify}}", "next-shape", "fit_here"),
    ("job", "next: [{step: verify}]", "next: {arcs: [{stp: verify}]}", "next-shape", "fit_here"),
    ("job", "next: [{step: verify}]", "next: {arcs: [verify]}", "next-shape", "fit_here"),
    ("job", "next: [{step: verify}]", "next: 5", "next-shape", "fit_here"),
    (
        "job",
        "next: [{step: verify}]",
        "next: [{when: 'true', then: [{step: verify}]}]",
        "next-then-on-server",
        "fit_here",
    ),
    (
        "job",
        "next: [{step: verify}]",
        "next: {arcs: [{step: verify}], mode: exclusive}",
        "next-unknown-key",
        "fit_here",
    ),
    ("conductor", "mode: inclusive", "mode: parallel", "next-mode", "rows"),
    ("job", "next: [{step: verify}]", "spec: {next_mode: any}\n  next: [{step: verify}]", "next-mode", "fit_here"),
    ("stage", 'when: "{{ vars.verdict', 'wehn: "{{ vars.verdict', "arc-unknown-key", "verify"),
    ("stage", "    - step: collect", "    - step: colect", "arc-target", "start"),
    (
        "stage",
        "    - step: failed\n      when",
        "    - step: verify\n    - step: failed\n      when",
        "arc-never-taken",
        "collect",
    ),
    ("job", "next: {arcs: [{step: end}]}", "next: {arcs: [{step: end, set: {x: '1'}}]}", "arc-set-locally", "verify"),
    (
        "job",
        "next: {arcs: [{step: end}]}",
        "next: {arcs: [{step: end, args: {x: '1'}}]}",
        "arc-args-on-server",
        "verify",
    ),
    ("job", "    - step: bad_mode\n", "    - step: end\n", "step-unreachable", "bad_mode"),
    ("conductor", "- step: end\n- step: again", "- step: again\n- step: again", "cycle-without-exit", "report"),
    ("job", 'cmds: ["exit 64"]', 'cmds: ["exit 65"]', "shell-scripts-differ", "bad_mode"),
    (
        "conductor",
        "{arcs: [{step: end}]}\n- step: end",
        "{arcs: [{step: report}]}\n- step: end",
        "inclusive-join",
        "report",
    ),
    # steps and tools
    ("stage", "- step: failed\n  tool: {kind: noop}", "- step: failed", "tool-missing", "failed"),
    ("stage", "- step: failed\n  tool: {kind: noop}", "- step: failed\n  tool: noop", "tool-shape", "failed"),
    (
        "stage",
        "- step: failed\n  tool: {kind: noop}",
        "- step: failed\n  tool: [{name: a, kind: noop}]",
        "tool-list-locally",
        "failed",
    ),
    ("stage", "- step: failed\n  tool: {kind: noop}", "- step: failed\n  tool: [{a: 1}]", "tool-list-shape", "failed"),
    ("stage", "kind: http", "kind: htttp", "tool-kind-unknown", "notify"),
    ("stage", "kind: http", "kind: Http", "tool-kind-unknown", "notify"),
    ("stage", "kind: http", "kind: agent", "tool-kind-on-server", "notify"),
    ("stage", "kind: shell\n    shell: bash", "kind: python\n    code: 'x = 1'", "tool-kind-locally", "collect"),
    ("job", "  mode: local", "  mode: container", "tool-kind-locally", "fit_job"),
    ("stage", "    url: http://localhost:8080/night\n", "", "tool-field-missing", "notify"),
    ("conductor", '    path: "{{ workload.prefix }}rows{{ workload.suffix }}"\n', "", "tool-field-missing", "rows"),
    ("stage", 'body: \'{"rows"', 'params: {n: 5}\n    body: \'{"rows"', "http-field", "notify"),
    (
        "stage",
        'body: \'{"rows": "{{ vars.rows }}", "limit": "{{ workload.limit }}"}\'',
        "body: {a: b}",
        "http-field",
        "notify",
    ),
    ("stage", "- step: end\n  tool: {kind: noop}", f"- step: end\n  {SHELL}", "end-step-has-work", "end"),
    (
        "job",
        "next: [{step: verify}]",
        "case: [{when: 'true', then: {next: [{step: verify}]}}]",
        "step-case",
        "fit_here",
    ),
    (
        "job",
        "next: [{step: verify}]",
        "loop: {in: '{{ workload.out }}', iterator: x}\n  next: [{step: verify}]",
        "loop-locally",
        "fit_here",
    ),
    (
        "job",
        "next: [{step: verify}]",
        "loop: {in: '{{ workload.out }}'}\n  next: [{step: verify}]",
        "loop-shape",
        "fit_here",
    ),
    ("job", "next: [{step: verify}]", "retry: {max: 3}\n  next: [{step: verify}]", "retry-ignored", "fit_here"),
    ("job", "next: [{step: verify}]", "spec: {timeout: 30}\n  next: [{step: verify}]", "spec-timeout", "fit_here"),
    ("job", "next: [{step: verify}]", "nxt: 1\n  next: [{step: verify}]", "step-unknown-key", "fit_here"),
    (
        "job",
        "next: [{step: verify}]",
        "when: \"{{ workload.mode == 'local' }}\"\n  next: [{step: verify}]",
        "step-when-ends-branch",
        "fit_here",
    ),
    ("stage", "step: failed", "step: not-well", "step-name", "not-well"),
    ("stage", "step: failed", "step: result", "step-name-reserved", "result"),
    ("conductor", "    return_result: true\n", "", "playbook-result", "rows"),
    ("conductor", "    result_step: verify\n", "", "playbook-result-step", "rows"),
    ("conductor", "    timeout: 3600\n", "", "playbook-timeout", "rows"),
    ("conductor", "timeout: 3600", "timeout: '{{ workload.region }}'", "playbook-timeout", "rows"),
    (
        "conductor",
        '"{{ workload.prefix }}rows{{ workload.suffix }}"',
        "shop/stages/rows",
        "playbook-path-locally",
        "rows",
    ),
    (
        "conductor",
        '"{{ workload.prefix }}rows{{ workload.suffix }}"',
        "stages/rows.yaml",
        "playbook-path-on-server",
        "rows",
    ),
    # templates and conditions
    ("stage", "--request '{{ workload.request }}'", "--request '{{workload.request}}'", "template-spacing", "collect"),
    ("stage", "--out {{ workload.out }}", "--out {{ workload.out", "template-unclosed", "collect"),
    ("stage", "--out {{ workload.out }}", "--out {{ workload.out", "template-syntax-on-server", "collect"),
    ("stage", "--out {{ workload.out }}", "--out {{ workload.out + 'x' }}", "template-local-expression", "collect"),
    (
        "stage",
        "--out {{ workload.out }}",
        "--out {{ workload.out | default('run') }}",
        "template-local-expression",
        "collect",
    ),
    ("stage", "--out {{ workload.out }}", "--out {% if true %}x{% endif %}", "template-block-locally", "collect"),
    ("stage", "--out {{ workload.out }}", "--out {{ workload.out.base }}", "workload-nested-locally", "collect"),
    ("stage", "--out {{ workload.out }}", "--out {{ env.HOME }}", "env-locally", "collect"),
    ("stage", "--out {{ workload.out }}", "--out {{ execution_id }}", "env-locally", "collect"),
    ("stage", "{{ vars.rows }}", "{{ verify.stdout }}", "step-field-locally", "notify"),
    ("stage", "{{ vars.rows }}", "{{ verify.result }}", "step-result-on-server", "notify"),
    (
        "stage",
        'command: "test -s',
        "command: \"docker ps --format '{{.Names}}'; test -s",
        "template-syntax-on-server",
        "verify",
    ),
    ("stage", 'command: "test -s', 'command: "echo ${#PATH}; test -s', "template-syntax-on-server", "verify"),
    ("stage", "{{ workload.request }}", "{{ workload.reqest }}", "workload-undefined", "collect"),
    ("job", "workload.mode == 'local'", "workload.modus == 'local'", "workload-undefined", "start"),
    ("stage", "  runtime: local\n", "", "workload-undefined", "collect"),
    ("stage", "vars.verdict == 'PASS'", "vars.verdikt == 'PASS'", "vars-undefined", "verify"),
    ("stage", "{{ vars.rows }}", "{{ input.rows }}", "input-undefined", "notify"),
    ("stage", "{{ vars.rows }}", "{{ nowhere.result }}", "name-undefined", "notify"),
    ("conductor", "workload.region != 'eu'", "rows.result != 'eu'", "playbook-result-locally", "rows"),
    ("conductor", "cat '{{ workload.out }}/r", "cat '{{ rows.result }}/r", "playbook-result-locally", "report"),
    ("job", "\"{{ workload.mode == 'local' }}\"", "true", "when-shape", "start"),
    ("job", "\"{{ workload.mode == 'local' }}\"", "''", "when-shape", "start"),
    ("job", "\"{{ workload.mode == 'local' }}\"", '"{ workload.mode }"', "when-shape", "start"),
    ("job", "\"{{ workload.mode == 'local' }}\"", "\"{{ workload.mode }} == 'local'\"", "condition-partial", "start"),
    ("job", "\"{{ workload.mode == 'local' }}\"", "\"{{ workload.mode == 'local'\"", "template-unclosed", "start"),
    ("job", "workload.mode == 'local'", "workload.mode = 'local'", "condition-operator", "start"),
    ("job", "workload.mode == 'local'", "workload.mode == 'local' && workload.out", "condition-operator", "start"),
    (
        "job",
        "workload.mode == 'local'",
        "workload.mode == 'local' and workload.out == 'x'",
        "condition-locally",
        "start",
    ),
    ("job", "workload.mode == 'local'", "not workload.mode", "condition-locally", "start"),
    ("job", "workload.mode == 'local'", "workload.mode > 'a'", "condition-locally", "start"),
    ("job", "workload.mode == 'local'", "workload.mode == 'a==b'", "condition-locally", "start"),
    ("job", "workload.mode == 'local'", "workload.mode | upper == 'LOCAL'", "condition-locally", "start"),
    (
        "stage",
        "workload.runtime == 'distributed' and collect.exit_code != 0",
        "collect.exit_code != 0",
        "condition-operand-locally",
        "collect",
    ),
    ("stage", "vars.verdict == 'PASS'", "workload.limit == '100'", "condition-type-on-server", "verify"),
    ("stage", 'verdict: "{{ result.verdict }}"', "verdict: 1", "vars-text", "verify"),
    ("stage", 'verdict: "{{ result.verdict }}"', 'verdict: "{{ result }}"', "vars-result-locally", "verify"),
    ("stage", '      verdict: "{{ (verify.stdout | fromjson).verdict }}"\n', "", "vars-on-server", "verify"),
    ("stage", '    verdict: "{{ result.verdict }}"\n', "", "set-locally", "verify"),
    ("stage", "  desc: Collect\n", "  input: {day: today}\n", "input-on-server", "collect"),
    # shell
    ("job", 'cmds: ["exit 64"], ', "", "shell-cmds", "bad_mode"),
    ("job", ', command: "exit 64"', "", "shell-command", "bad_mode"),
    ("job", 'command: "exit 64"', "command: [exit, '64']", "shell-command", "bad_mode"),
    ("job", 'cmds: ["exit 64"]', "cmds: [64]", "shell-cmds-shape", "bad_mode"),
    ("stage", "    cmds:\n    - |\n      set -euo", "    cmds: |\n      set -euo", "shell-cmds-split", "collect"),
    ("job", 'cmds: ["exit 64"]', 'cmds: "cat <<E\\nhello\\nE"', "shell-cmds-split", "bad_mode"),
    ("job", 'cmds: ["exit 64"]', 'cmds: ["X=5", "echo $X"]', "shell-cmds-separate", "bad_mode"),
    ("job", 'cmds: ["exit 64"]', 'cmds: ["cd /srv", "exit 64"]', "shell-cmds-separate", "bad_mode"),
    (
        "stage",
        "      set -euo pipefail\n      exec",
        "      python3 prepare.py\n      exec",
        "shell-no-errexit",
        "collect",
    ),
    ("stage", "    shell: bash\n", "", "shell-bash", "collect"),
    ("stage", "--out {{ workload.out }}", "--out {{ vars.rows }}", "shell-injection", "collect"),
    ("stage", "--out {{ workload.out }}", '--out "{{ vars.rows }}"', "shell-injection", "collect"),
    ("stage", "  out: ./run", "  out: a folder; of mine", "shell-injection", "collect"),
    ("stage", "    shell: bash\n", "    shell: bash\n    env: {A: b}\n", "shell-field-locally", "collect"),
    ("stage", "    timeout_seconds: 600\n", "    timeout: 600\n", "shell-unknown-field", "collect"),
    # container
    ("job", 'image: "{{ workload.image }}"', "image: ''", "container-image", "fit_job"),
    ("job", "command: [fit]", "command: fit", "container-command", "fit_job"),
    ("job", "value_from: {secret_name", "value: x\n      value_from: {secret_name", "container-env", "fit_job"),
    ("job", 'value: "{{ execution_id }}"', "value: 5", "container-env", "fit_job"),
    ("job", '      value: "{{ execution_id }}"\n', "", "container-env", "fit_job"),
    ("job", ', secret_key: "{{ workload.token_key }}"', "", "container-env", "fit_job"),
    ("job", "timeout_seconds: 7200", 'timeout_seconds: "{{ workload.out }}"', "container-timeout", "fit_job"),
    ("job", "empty_dir: {}", "emptyDir: {}", "container-volumes", "fit_job"),
    ("job", "{name: data, mount_path: /data}", "{name: dta, mount_path: /data}", "container-mounts", "fit_job"),
    ("job", "{name: data, mount_path: /data}", "{name: data, mount_path: data}", "container-mounts", "fit_job"),
    ("job", 'nvidia.com/gpu: "1"', "nvidia.com/gpu: 1", "container-text-map", "fit_job"),
    ("job", "restart_policy: Never", "restart_policy: Always", "container-restart", "fit_job"),
    ("job", "operator: Exists", "operator: Has", "container-toleration", "fit_job"),
    ("job", "backoff_limit: 0", "backoffLimit: 0", "container-unknown-field", "fit_job"),
    ("job", "fit_job", "fit_job_" + "x" * 60, "container-step-label", "fit_job_" + "x" * 60),
]

WHOLE = {
    "not-a-playbook": "- step: start\n",
    "workflow-missing": "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x}\nworkflow: []\n",
    "workload-shape": TEXTS["conductor"].replace(
        TEXTS["conductor"].split("workload:\n")[1].split("workflow:")[0], "- a\n"
    ),
    "no-terminal": "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x}\nworkflow:\n"
    "- {step: start, tool: {kind: noop}, next: [{step: two}]}\n"
    "- {step: two, tool: {kind: noop}, next: [{step: start}]}\n",
}
WHOLE["yaml-too-large"] = "a: " + "x" * 1_000_001
ELSEWHERE = {"executor-profile-distributed"}
"""Rules with a test of their own."""


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("runtime", [None, "local", "server", "both"])
def test_playbooks_that_run_give_no_finding(name, runtime):
    assert lint_text(TEXTS[name], name, runtime) == []


@pytest.mark.parametrize(("book", "old", "new", "rule", "step"), FAULTS)
def test_a_planted_fault_is_found_in_its_step(book, old, new, rule, step):
    assert old in TEXTS[book], "the edit changes nothing"
    every = rule.startswith(("container-step", "step-name", "shell-injection", "template-syntax"))
    text = TEXTS[book].replace(old, new, -1 if every else 1)
    found = [finding for finding in lint_text(text, "p.yaml") if finding.rule == rule]
    assert found, [str(finding) for finding in lint_text(text)]
    assert step in {finding.step for finding in found}
    assert all(f.file == "p.yaml" and 1 <= f.line <= text.count("\n") + 1 and f.why and f.mend for f in found)


@pytest.mark.parametrize("rule", WHOLE)
def test_a_playbook_that_is_wrong_as_a_whole_is_found(rule):
    assert rule in {finding.rule for finding in lint_text(WHOLE[rule])}


def test_every_rule_has_a_planted_fault():
    assert set(RULES) == {fault[3] for fault in FAULTS} | set(WHOLE) | ELSEWHERE
    assert len(FAULTS) >= 40 and all(re.fullmatch(r"[a-z]+(-[a-z]+)*", id_) for id_ in RULES)


def test_a_finding_names_its_line_and_a_near_name():
    text = TEXTS["stage"].replace("    - step: collect", "    - step: colect", 1)
    (finding,) = [f for f in lint_text(text, "p.yaml") if f.rule == "arc-target"]
    assert text.splitlines()[finding.line - 1].strip() == "- step: colect"
    assert finding.mend == "did you mean `collect`?" and finding.severity == "error"
    assert str(finding).startswith(f"p.yaml:{finding.line} step start [arc-target] ")


def test_each_runtime_is_asked_for_its_own_rules_only():
    local = TEXTS["job"].replace(', command: "exit 64"', "")
    assert [f.rule for f in lint_text(local)] == ["shell-command"]
    assert lint_text(local, runtime="local") == []
    server = TEXTS["job"].replace('cmds: ["exit 64"], ', "")
    assert [f.rule for f in lint_text(server)] == ["shell-cmds"]
    assert lint_text(server, runtime="server") == []


def test_a_distributed_profile_is_held_to_the_servers_rules_alone():
    server = TEXTS["stage"].replace("profile: local", "profile: distributed").replace("kind: http", "kind: postgres")
    assert lint_text(server) == []
    assert {"executor-profile-distributed"} == {f.rule for f in lint_text(server, runtime="local")}


def test_scripts_may_differ_where_the_runtimes_name_a_result_differently():
    text = TEXTS["stage"].replace("--out {{ workload.out }}", "--out '{{ verify.result }}'", 1)
    same = text.replace("--out {{ workload.out }}", "--out '{{ verify.stdout }}'", 1)
    assert "shell-scripts-differ" not in {f.rule for f in lint_text(same)}
    assert "shell-scripts-differ" in {f.rule for f in lint_text(text)}


@pytest.mark.parametrize(
    ("script", "missed"),
    [("echo ${A:-}", False), ("echo $A", True), ("echo ${A:-} $A", True), ("true", True), ("echo ${AB:-}", True)],
)
def test_variables_that_only_a_server_sets_may_be_read_with_a_default(script, missed):
    text = TEXTS["stage"].replace("    shell: bash\n", "    shell: bash\n    env: {A: b}\n")
    text = text.replace("set -euo pipefail", f"set -euo pipefail\n      {script}")
    assert ("shell-field-locally" in {finding.rule for finding in lint_text(text)}) is missed


def test_broken_yaml_is_one_finding_with_its_line():
    (finding,) = lint_text("apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: [}\n")
    assert (finding.rule, finding.line) == ("yaml-broken", 3)
    assert [f.rule for f in lint_text("a: 1\n---\nb: 2\n")] == ["yaml-broken"]
    assert [f.rule for f in lint_text("")] == ["yaml-broken"]
    assert [f.rule for f in lint_text("a: \ud800")] == ["yaml-broken"]


def test_an_alias_bomb_is_refused_at_once():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    begun = time.process_time()
    assert [f.rule for f in lint_text("\n".join(levels))] == ["yaml-too-large"]
    assert time.process_time() - begun < 5


def test_a_long_chain_and_many_arcs_stay_cheap():
    head = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x}\nworkflow:\n"
    chain = "".join(f"- {{step: s{i}, tool: {{kind: noop}}, next: [{{step: s{i + 1}}}]}}\n" for i in range(2000))
    text = (
        head
        + "- {step: start, tool: {kind: noop}, next: [{step: s0}]}\n"
        + chain
        + "- {step: s2000, tool: {kind: noop}}\n"
    )
    begun = time.process_time()
    assert lint_text(text) == []
    assert time.process_time() - begun < 10


def test_yaml_is_read_as_the_runtimes_read_it():
    text = TEXTS["job"].replace("bad_mode", "no")
    assert lint_text(text) == []


@pytest.fixture
def folder(tmp_path):
    """Two playbooks, one of them broken, among other YAML."""
    tmp_path = tmp_path / "books"
    (tmp_path / "deep" / ".git").mkdir(parents=True)
    (tmp_path / "good.yaml").write_text(TEXTS["job"])
    (tmp_path / "deep" / "bad.yml").write_text(TEXTS["job"].replace(', command: "exit 64"', ""))
    (tmp_path / "deep" / "torn.yaml").write_text("kind: Playbook\nmetadata: {name: [}\n")
    (tmp_path / "deep" / ".git" / "hidden.yaml").write_text("kind: Playbook")
    (tmp_path / "deploy.yaml").write_text("apiVersion: v1\nkind: Service\n")
    (tmp_path / "chart.yaml").write_text("a: {{ .Values.a }}\nb: [}\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    (tmp_path / "notes.txt").write_text("kind: Playbook")
    return tmp_path


def test_a_folder_is_searched_and_other_yaml_passed_over_with_a_note(folder):
    report = lint_paths([folder])
    names = [str(Path(file).relative_to(folder)) for file in report.files]
    assert names == ["good.yaml", "deep/bad.yml", "deep/torn.yaml"]
    assert [(Path(f.file).name, f.rule) for f in report.findings] == [
        ("bad.yml", "shell-command"),
        ("torn.yaml", "yaml-broken"),
    ]
    skipped = {Path(file).name: why for file, why in report.skipped.items()}
    assert (
        set(skipped) == {"deploy.yaml", "chart.yaml", "list.yaml", "latin.yaml"} and "Service" in skipped["deploy.yaml"]
    )


def test_a_named_file_is_always_linted(folder):
    rules = {f.rule for f in lint_paths([folder / "deploy.yaml"]).findings}
    assert {"api-version", "kind", "workflow-missing"} <= rules
    assert [f.rule for f in lint_paths([folder / "latin.yaml"]).findings] == ["yaml-broken"]
    assert len(lint_paths([folder / "good.yaml", folder / "good.yaml"]).files) == 1


def test_nothing_to_lint_is_no_success(tmp_path):
    with pytest.raises(UnreadableError, match="no playbook"):
        lint_paths([tmp_path])
    with pytest.raises(UnreadableError, match="no such file"):
        lint_paths([tmp_path / "nowhere.yaml"])


def test_the_page_of_rules_is_current():
    page = (Path(__file__).parents[2] / "docs" / "noetl-lint.md").read_text()
    assert rules_page() in page, "write rules_page() into docs/noetl-lint.md"


KEYS = st.sampled_from(
    sorted(
        words(
            "apiVersion kind metadata name labels version executor profile spec entry_step workload workflow step tool "
            "next arcs when set vars loop in iterator mode input cmds command image env value volumes volume_mounts "
            "body path timeout case then else tolerations resources keychain requires tools url headers << code shell"
        )
    )
)
WORDS = st.sampled_from(
    ["Playbook", "noetl.io/v2", "start", "end", "shell", "container", "playbook", "http", "{{ workload.a }}", "{{",
     "}}",
     "{{ a.b | c }}", "{{.X}}", "{% if", "a == b", "{{ 'x' in start.result }}", "noetl://x", "registry://a/b",
     "X=1\ncd a", ""]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=6),
    max_leaves=30,
)
STEPS = st.lists(st.dictionaries(KEYS, VALUES, max_size=6) | VALUES, max_size=4)


def sound(findings):
    """Whether every finding has a place and a known rule."""
    return all(finding.line >= 1 and finding.rule in RULES for finding in findings)


@pytest.mark.parametrize("odd", ["[a]", "{a: b}", "5", "true", "null", "'{{'"])
def test_no_odd_value_in_any_place_makes_it_fall_over(odd):
    for text in TEXTS.values():
        for match in re.finditer(r"(?<=: )[^\s{}\[\],|]+(?=[\n,}])", text):
            assert sound(lint_text(text[: match.start()] + odd + text[match.end() :]))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=6), STEPS, st.sampled_from([None, "local", "server", "both"]))
def test_no_value_makes_it_fall_over(root, steps, runtime):
    text = yaml.safe_dump({**root, "workflow": steps}, allow_unicode=True)
    findings = lint_text(text, "p.yaml", runtime)
    assert findings == lint_text(text, "p.yaml", runtime)
    assert sound(findings)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200) | st.text(alphabet="{}[]:&*!-|>'\"%#@, \n\tab<", max_size=60))
def test_no_text_makes_it_fall_over(text):
    assert sound(lint_text(text))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TEXTS)), st.data())
def test_no_torn_playbook_makes_it_fall_over(name, data):
    text = TEXTS[name]
    start = data.draw(st.integers(0, len(text)))
    assert sound(
        lint_text(text[:start] + data.draw(st.text(max_size=5)) + text[start + data.draw(st.integers(0, 40)) :])
    )


@pytest.fixture
def slm(monkeypatch, capsys):
    """The command line in this process: exit code and what was printed."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["slm", "playbooks", "lint", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr()

    return call


def test_the_command_reports_and_exits_by_what_it_found(slm, folder):
    code, out = slm(BOOKS, "--json")
    clean = json.loads(out.out)
    assert code == 0 and clean["findings"] == [] and len(clean["files"]) == 3
    code, out = slm(folder, "--json")
    bad = json.loads(out.out)
    assert code == 1 and bad["errors"] == 2 and bad["warnings"] == 0 and len(bad["skipped"]) == 4
    assert {"file", "line", "step", "rule", "severity", "why", "mend"} <= set(bad["findings"][0])
    code, out = slm(folder / "deep")
    assert code == 1 and "step bad_mode [shell-command]" in out.out and "mend: add `command" in out.out
    assert slm(folder / "good.yaml", "--runtime", "local")[0] == 0


def test_warnings_alone_exit_with_0(slm, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(TEXTS["job"].replace("  path: shop/stages/fit\n", "  version: 3\n"))
    code, out = slm(path)
    assert code == 0 and "warning" in out.out and "1 playbook: 0 errors, 1 warning" in out.out


def test_bad_input_exits_with_2(slm, tmp_path):
    assert slm(BOOKS, "--runtime", "moon")[0] == 2
    assert slm()[0] == 2
    code, out = slm(tmp_path / "none.yaml")
    assert code == 2 and "no such file" in " ".join(out.err.split())
    code, out = slm(tmp_path / "none.yaml", "--json")
    assert code == 2 and "no such file" in json.loads(out.out)["error"]


def test_the_command_as_a_process(workplace):
    assert workplace.json("playbooks", "lint", str(BOOKS))["errors"] == 0
