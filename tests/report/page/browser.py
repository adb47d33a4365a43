"""Opens a page in headless Chromium, at the widths of a telephone and of a desk, and says what it looks like there."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Frames have the width that they are given, which windows of a headless browser do not: none is narrower than 500.
FRAMES = """<!doctype html><pre id="found"></pre><script>
const sizes = WIDTHS, found = {};
const look = (width, frame) => {
  const inside = frame.contentDocument, root = inside.documentElement;
  inside.querySelectorAll("details").forEach(each => { each.open = true; });
  const boxes = [...inside.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
  const texts = [...inside.querySelectorAll("svg text")].map(text => text.getBoundingClientRect());
  found[width] = {
    title: inside.title,
    client: root.clientWidth,
    scroll: root.scrollWidth,
    svgs: boxes.length,
    empty: boxes.filter(box => box.width <= 0 || box.height <= 0).length,
    outside: texts.filter(box => box.left < 0 || box.right > root.clientWidth).length,
    scripts: inside.scripts.length,
    ran: frame.contentWindow.ran === true,
    elsewhere: performance.getEntriesByType("resource").filter(entry => /^https?:/.test(entry.name)).length,
  };
  if (Object.keys(found).length === sizes.length)
    document.getElementById("found").textContent = JSON.stringify(found);
};
for (const width of sizes) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `border:0;height:900px;width:${width}px`;
  frame.onload = () => look(width, frame);
  frame.src = "PAGE";
  document.body.append(frame);
}
</script>"""


def chromium() -> str:
    """Where it is; skips the test where it is nowhere."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    return found


def looks(page: Path, widths: Sequence[int]) -> tuple[dict[str, Any], list[str]]:
    """What the page measures at each width, and the lines of the browser's console."""
    frames = page.with_name("frames.html")
    frames.write_text(FRAMES.replace("WIDTHS", json.dumps(list(widths))).replace("PAGE", page.name), encoding="utf-8")
    ran = subprocess.run(
        [
            chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
            "--enable-logging=stderr", "--virtual-time-budget=5000", "--window-size=1600,1200", "--dump-dom",
            frames.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    said = re.search(r'<pre id="found">(.*?)</pre>', ran.stdout, re.DOTALL)
    assert said is not None, ran.stdout[:500]
    return json.loads(html.unescape(said[1])), [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
