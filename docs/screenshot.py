"""Pictures of a running UI: the lineage, the domain × version grid of eval_report, and one of its checks.

    python docs/screenshot.py --url http://127.0.0.1:3000 --partition "travel|v2" --check floor

Needs Chromium or Chrome. Writes PNG files into docs/images/.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE_MS = 60_000  # of the page's own clock, which runs ahead while nothing is loading


def pages(partition: str, check: str) -> dict[str, str]:
    """File name → path of the page in the UI."""
    chosen = quote(partition, safe="")
    return {
        "lineage.png": "/asset-groups",
        "grid.png": f"/assets/eval_report?view=partitions&partition={chosen}",
        "check.png": f"/assets/eval_report?view=checks&checkDetail={quote(check)}",
        "materialisation.png": f"/assets/eval_report?view=events&partition={chosen}",
    }


def take(browser: str, address: str, target: Path, size: str) -> None:
    """One page as a PNG. Raises where the browser fails or takes more than two minutes."""
    with tempfile.TemporaryDirectory(prefix="slm-shot-") as profile:
        command = [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--window-size={size}",
            f"--virtual-time-budget={PATIENCE_MS}",
            f"--user-data-dir={profile}",
            f"--screenshot={target}",
            address,
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def main() -> int:
    """Take every picture; 1 where there is no browser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--partition", default="travel|v1")
    parser.add_argument("--check", default="verdict")
    parser.add_argument("--size", default="1600,1000", help="width,height in pixels")
    wanted = parser.parse_args()
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.stderr.write(f"no browser: install one of {', '.join(BROWSERS)} (Debian: apt-get install chromium)\n")
        return 1
    wanted.out.mkdir(parents=True, exist_ok=True)
    for name, path in pages(wanted.partition, wanted.check).items():
        take(browser, wanted.url.rstrip("/") + path, (wanted.out / name).absolute(), wanted.size)
        sys.stdout.write(f"{wanted.out / name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
