"""The pictures of the README: docs/report.png, the top of a page, and docs/terminal.svg, what the main job prints.

    python tools/pictures.py

Both are of real runs, timed on this machine: run it where nothing else does. Needs Chromium and the extra `test`, for pillow.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

from modhifi_graph import optimize, page, terminal

DOCS = Path(__file__).resolve().parents[1] / "docs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, HEIGHT = 1100, 1330
COLOURS = 64
"""A page has few colours; a palette of as many makes the picture a third of the size."""

COLUMNS = 92


def picture_of_a_page(sample: str, speedup: float, path: Path) -> None:
    """The top of the page of a search for a speed-up, in light colours."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    command = f"modhifi-graph optimize {sample} --speedup {speedup:g} -o slim.onnx --report report.html"
    slim = optimize(sample, speedup=speedup, details=True)
    with tempfile.TemporaryDirectory() as folder:
        written, shot = Path(folder, "report.html"), Path(folder, "report.png")
        page.write(slim.report, written, model=sample, command=command)
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", written.as_uri(),
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        image = Image.open(shot).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        image.save(path, optimize=True)


def picture_of_the_terminal(sample: str, macs: float, path: Path) -> None:
    """What the main job prints, as a drawing that asks no other machine for its fonts."""
    slim = optimize(sample, macs=macs)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"$ modhifi-graph optimize {sample} --macs {macs:g} -o slim.onnx", style="bold"))
    console.print(terminal.report(slim.report, Path("slim.onnx")))
    own = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    own = own.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    path.write_text(console.export_svg(title="modhifi-graph", code_format=own, unique_id="terminal"), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=DOCS)
    folder = parser.parse_args(argv).folder
    picture_of_a_page("sample:digits-vit", 1.5, folder / "report.png")
    picture_of_the_terminal("sample:digits-cnn", 0.5, folder / "terminal.svg")


if __name__ == "__main__":
    main()
