"""Find the code and the tables of the built documentation that do not fit their column, in headless Chromium."""

import json
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH = 1280
"""Pixels of a small laptop's screen."""
LONGEST = 106
"""Characters of a line of code that fits there, with the font that is wider than most."""
_ASKS = """<!doctype html><body></body><script type="module">
const found = {};
for (const page of PAGES) {
  const frame = document.createElement("iframe");
  frame.style = "width: WIDTHpx; height: 800px";
  const loaded = new Promise(done => { frame.onload = done; });
  frame.src = page;
  document.body.append(frame);
  await loaded;
  const blocks = [...frame.contentDocument.querySelectorAll("article pre, article .table-wrapper")];
  const cut = blocks.filter(block => block.scrollWidth > block.clientWidth);
  found[page] = [blocks.length, cut.map(block => block.innerText)];
  frame.remove();
}
document.body.innerText = "measured" + JSON.stringify(found) + "measured";
</script>"""


class _Pages(SimpleHTTPRequestHandler):
    """Serves the built site, and one page more that looks at all others."""

    def do_GET(self) -> None:
        """Answer with a page of the site, or with the one that measures."""
        if self.path != "/measure":
            super().do_GET()
            return
        site = Path(self.directory)
        pages = sorted(str(page.relative_to(site)) for page in site.rglob("*.html"))
        text = _ASKS.replace("PAGES", json.dumps(pages)).replace("WIDTH", str(WIDTH)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def measure(site: Path, browser: str) -> dict[str, tuple[int, list[str]]]:
    """Return for each page how many blocks and tables it has, and the text of those that are cut."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pages, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/measure"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=120000", "--dump-dom"]
        shown = subprocess.run([browser, *flags, address], check=True, capture_output=True, text=True).stdout
        server.shutdown()
    return json.loads(re.findall(r"measured(.*)measured", shown, re.DOTALL)[0])


def main() -> int:
    """Measure the site in the folder that is named, and show what is cut."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        print("No Chromium: whether code fits its column was not measured.")
        return 0
    pages = measure(Path(sys.argv[1]), browser)
    cut = {page: blocks for page, (_, blocks) in pages.items() if blocks}
    for page, blocks in cut.items():
        print(f"{page}: cut at {WIDTH} pixels:", *blocks, sep="\n\n")
    print(f"{sum(number for number, _ in pages.values())} blocks and tables, {sum(map(len, cut.values()))} cut")
    return 1 if cut else 0


if __name__ == "__main__":
    sys.exit(main())
