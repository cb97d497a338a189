"""What many domains cost: the code location's load, `slm validate` and `slm status` of all of them.

    python benchmarks/many_domains.py              1, 100 and 500 domains
    python benchmarks/many_domains.py --repeat 5 1 500

Every load is a fresh process; shown is the fastest of some, in CPU seconds, which other work on the machine
disturbs least, and that over the time of the first size. `opened` counts the files below the domains'
folder that were opened, `listed` its folders that were listed. One domain of each size above one has a
broken config: the load must not mind, and validate and status must name it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SIZES = (1, 100, 500)
CONFIG = """\
slm_domain:
  name: NAME
  roles:
    - id: route
      output_schema: route.schema.json
      deterministic_oracle: {kind: rules, path: route.rules.yaml}
  data: {seed_corpus: seed}
"""
SCHEMA = {"type": "object", "properties": {"intent": {"enum": ["order", "other"]}}, "required": ["intent"]}
BROKEN = "{ not: [yaml"
LOAD = """\
import os, resource, sys
root, opened, listed = os.environ["SLM_DOMAINS"], [], []
def watch(event, arguments):
    named = bool(arguments) and isinstance(arguments[0], (str, bytes, os.PathLike))
    if named and os.fsdecode(arguments[0]).startswith(root):
        if event == "open":
            opened.append(arguments[0])
        elif event in ("os.scandir", "os.listdir"):
            listed.append(arguments[0])
sys.addaudithook(watch)
from slm_assets.definitions import defs
defs.get_repository_def()
usage = resource.getrusage(resource.RUSAGE_SELF)
print(usage.ru_utime + usage.ru_stime, len(opened), len(listed), usage.ru_maxrss >> 10)
"""


def make(root: Path, count: int) -> None:
    """Write `count` small domains; the last of several is broken."""
    for number in range(count):
        name = f"domain{number:04d}"
        folder = root / name
        (folder / "seed").mkdir(parents=True)
        broken = count > 1 and number == count - 1
        (folder / "slm.config.yaml").write_text(BROKEN if broken else CONFIG.replace("NAME", name))
        (folder / "route.schema.json").write_text(json.dumps(SCHEMA))
        (folder / "route.rules.yaml").write_text("rules: []\ndefault: {intent: other}\n")
        (folder / "seed" / "a.jsonl").write_text('{"id": "1", "input": {"text": "one row"}}\n')


def load(env: dict[str, str]) -> list[float]:
    """CPU seconds, files opened, folders listed and peak MB of one load in a fresh process."""
    done = subprocess.run([sys.executable, "-c", LOAD], env=env, check=True, capture_output=True, text=True)
    return [float(part) for part in done.stdout.split()]


def ask(env: dict[str, str], command: str) -> tuple[float, Any]:
    """CPU seconds and JSON answer of an `slm` command over all domains."""
    script = (
        "import resource, sys\n"
        f"sys.argv = ['slm', '{command}', '--json']\n"
        "try:\n"
        "    from slm_assets.cli import main\n"
        "    main()\n"
        "finally:\n"
        "    usage = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    print(usage.ru_utime + usage.ru_stime, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=env, check=False, capture_output=True, text=True)
    return float(done.stderr.splitlines()[-1]), json.loads(done.stdout)


def measure(count: int, repeat: int) -> dict[str, Any]:
    """All numbers of one size."""
    with tempfile.TemporaryDirectory(prefix="slm-domains-") as name:
        base = Path(name)
        make(base / "domains", count)
        env = {**os.environ, "SLM_HOME": str(base / "home"), "SLM_DOMAINS": str(base / "domains")}
        loads = [load(env) for _ in range(repeat)]
        validate, faults = ask(env, "validate")
        status, found = ask(env, "status")
        fastest = min(loads)
        return {
            "domains": count,
            "load_cpu_s": round(fastest[0], 3),
            "opened": int(fastest[1]),
            "listed": int(fastest[2]),
            "peak_mb": int(fastest[3]),
            "validate_cpu_s": round(validate, 2),
            "status_cpu_s": round(status, 2),
            "broken": sum(any(f["severity"] == "error" for f in own) for own in faults["domains"].values()),
            "named_by_status": sum(bool(own["problem"]) for own in found["domains"]),
        }


def main() -> None:
    """Print a line per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domains", nargs="*", type=int, default=SIZES)
    parser.add_argument("--repeat", type=int, default=3, help="loads of each size")
    parser.add_argument("--json", type=Path, help="write the lines to this file too")
    arguments = parser.parse_args()
    lines: list[dict[str, Any]] = []
    for count in arguments.domains:
        line = measure(count, arguments.repeat)
        line["ratio"] = round(line["load_cpu_s"] / (lines[0] if lines else line)["load_cpu_s"], 2)
        if not lines:
            print(" ".join(f"{key:>{max(len(key), 8)}}" for key in line))
        print(" ".join(f"{value:>{max(len(key), 8)}}" for key, value in line.items()), flush=True)
        lines.append(line)
    if arguments.json:
        arguments.json.write_text(json.dumps(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
