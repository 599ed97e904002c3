"""Make the pages of docs/reference/ from the code, and fill the marked places of the others: `make docs`.

`pages()` returns what every such file has to hold; tests/unit/test_docs.py compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))

from generator import alarms, connections, dashboards, drain, http, operating, protocol, workflows  # noqa: E402 - beside this file

REFERENCE = "docs/reference"
NOTE = "<!-- Made by docs/generate.py from the code (`make docs`). Do not edit. -->"
# Pages with marked places.
PROXIES = ("nginx", "haproxy", "caddy", "apache")
FILLED = (
    "README.md",
    "README.ja.md",
    "docs/how-to/write-a-device-client.md",
    "docs/topics/draining.md",
    "docs/topics/transport.md",
    *(f"docs/how-to/behind-{name}.md" for name in PROXIES),
)
PAGES: dict[str, Callable[[], str]] = {
    "settings": operating.settings,
    "close-codes": protocol.close_codes,
    "messages": protocol.websocket_messages,
    "handshake-refusals": protocol.handshake_refusals,
    "http-api": http.http_api,
    "metrics": operating.metrics,
    "command-line": operating.command_line,
    "exit-codes": operating.exit_codes,
    "log-events": operating.log_page,
}


def pages() -> dict[str, str]:
    """The text of every generated or partly generated file, by its path within the repository."""
    found = {f"{REFERENCE}/{name}.md": f"{NOTE}\n\n{make().strip()}\n" for name, make in PAGES.items()}
    found[f"{REFERENCE}/asyncapi.json"] = protocol.asyncapi()
    found[f"{REFERENCE}/workflow.schema.json"] = workflows.schema()
    found["ecs/alarms.yaml"] = alarms.cloudformation()
    found["ecs/grafana.json"] = dashboards.grafana()
    return found | {path: fill((ROOT / path).read_text("utf-8")) for path in FILLED}


def fill(text: str) -> str:
    """Put benchmarks, examples and the table of drain states where a page asks for them."""
    text = _between(text, "<!-- benchmarks -->", "<!-- /benchmarks -->", lambda _: _benchmarks(text))
    text = _between(text, "<!-- drain-states -->", "<!-- /drain-states -->", lambda _: drain.states())
    text = _between(text, "<!-- drain-signals -->", "<!-- /drain-signals -->", lambda _: drain.signals())
    text = _between(text, "<!-- connection-phases -->", "<!-- /connection-phases -->", lambda _: connections.phases())
    text = _between(text, "<!-- ending-causes -->", "<!-- /ending-causes -->", lambda _: connections.causes())
    return _between(text, r"<!-- file: (\S+) -->", "<!-- /file -->", lambda match: _example(match[1]))


def _between(text: str, begin: str, end: str, make: Callable[[re.Match[str]], str]) -> str:
    pattern = re.compile(f"({begin})\n.*?({end})", re.DOTALL)
    return pattern.sub(
        lambda match: f"{match[0].partition(chr(10))[0]}\n{make(re.match(begin, match[0]) or match)}\n{end}", text
    )


def _benchmarks(page: str) -> str:
    path = ROOT / "docs/benchmarks.md"
    if path.exists():
        return path.read_text("utf-8").partition("\n")[2].strip()
    japanese = "ライセンス" in page
    return "まだ測定していません（`make bench`）。" if japanese else "Not measured yet (`make bench`)."


def _example(name: str) -> str:
    language = {".py": "python", ".mjs": "js"}.get(Path(name).suffix, "text")
    return f"```{language}\n{(ROOT / name).read_text('utf-8').strip()}\n```"


def main() -> None:
    """Write what differs, and say so."""
    for name, text in pages().items():
        path = ROOT / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            print(f"written: {name}")  # noqa: T201


if __name__ == "__main__":
    main()
