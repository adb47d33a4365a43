"""The pictures of the README: docs/report.png, the top of a page, and docs/terminal.svg, what the main job prints.

    python -m tools.samples.readme_pictures

Both are of real runs, timed on this machine: run it where nothing else does. Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

from modhifi_graph import optimize, page
from modhifi_graph.report import terminal
from tools.command import ROOT

DOCS = ROOT / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, HEIGHT = 1100, 1660
COLUMNS = 92


def screenshot(html: str, path: Path) -> None:
    """The top of a page, in light colours."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "report.html")
        written.write_text(html, encoding="utf-8")
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={path.resolve()}", written.as_uri(),
            ],
            check=True, capture_output=True,
        )  # fmt: skip


def drawing_of_terminal(report: Mapping[str, Any], command: str) -> str:
    """What a command prints, as an SVG that asks no other machine for its fonts."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"$ {command}", style="bold"))
    console.print(terminal.report(report, Path("slim.onnx")))
    own = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    own = own.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    return console.export_svg(title="modhifi-graph", code_format=own, unique_id="terminal")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=DOCS)
    folder = parser.parse_args(argv).folder
    command = "modhifi-graph optimize sample:digits-vit --speedup 1.5 -o slim.onnx --report report.html"
    report = optimize("sample:digits-vit", speedup=1.5, details=True).report
    screenshot(page.render(report, model="sample:digits-vit", command=command), folder / "report.png")
    command = "modhifi-graph optimize sample:digits-cnn --macs 0.5 -o slim.onnx"
    report = optimize("sample:digits-cnn", macs=0.5).report
    (folder / "terminal.svg").write_text(drawing_of_terminal(report, command), encoding="utf-8")


if __name__ == "__main__":
    main()
