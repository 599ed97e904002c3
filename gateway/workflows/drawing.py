"""The graph of a definition as a picture (SVG 1.1). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 190, 46, 70, 22, 16
_MAX_CHARS = 24
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1c2733}.small{font-size:11px;fill:#5b6b7b}"
    "rect{fill:#f4f7fa;stroke:#8fa3b5}path{fill:none;stroke:#8fa3b5;stroke-width:1.5}"
)


def layers(needs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Names by how many steps away from the beginning they are; within a layer near those that they need.

    `needs` has each name behind those that it needs.
    """
    depth: dict[str, int] = {}
    for name, before in needs.items():
        depth[name] = max((depth[one] + 1 for one in before), default=0)
    found: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for name in needs:
        found[depth[name]].append(name)
    place: dict[str, float] = {}
    for layer in found:
        layer.sort(key=lambda name: _middle([place[one] for one in needs[name]]))
        place.update({name: float(number) for number, name in enumerate(layer)})
    return found


def svg(title: str, nodes: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> str:
    """`nodes` have `name`, `needs` and `runner`, each behind those that it needs; `spec` is the definition."""
    columns = layers({node["name"]: node["needs"] for node in nodes})
    corner = {
        name: (MARGIN + column * (BOX_WIDTH + GAP_X), MARGIN + row * (BOX_HEIGHT + GAP_Y))
        for column, names in enumerate(columns)
        for row, name in enumerate(names)
    }
    width = 2 * MARGIN + len(columns) * (BOX_WIDTH + GAP_X) - GAP_X
    height = 2 * MARGIN + max(len(names) for names in columns) * (BOX_HEIGHT + GAP_Y) - GAP_Y
    edges = [_edge(corner[needed], corner[node["name"]]) for node in nodes for needed in node["needs"]]
    boxes = [_box(corner[node["name"]], node, spec["nodes"].get(node["name"], {})) for node in nodes]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            ' role="img">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L8 4L0 8z" style="fill:#8fa3b5"/></marker></defs>',
            *edges,
            *boxes,
            "</svg>",
            "",
        ]
    )


def _middle(places: Sequence[float]) -> float:
    return sum(places) / len(places) if places else 0.0


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x, y = start[0] + BOX_WIDTH, start[1] + BOX_HEIGHT // 2
    to_x, to_y = end[0], end[1] + BOX_HEIGHT // 2
    bend = GAP_X // 2
    return f'<path d="M{x} {y}C{x + bend} {y} {to_x - bend} {to_y} {to_x} {to_y}" marker-end="url(#end)"/>'


def _box(corner: tuple[int, int], node: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    x, y = corner
    marks = "".join(f"<title>{escape(text)}</title>" for text in _told(spec)[:1])
    below = " · ".join([node["runner"], *_told(spec)])
    return (
        f'<g>{marks}<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="7"/>'
        f'<text x="{x + 10}" y="{y + 19}">{escape(_short(node["name"]))}</text>'
        f'<text class="small" x="{x + 10}" y="{y + 36}">{escape(_short(below, _MAX_CHARS + 6))}</text></g>'
    )


def _told(spec: Mapping[str, Any]) -> list[str]:
    """What else is to be known of a node, in few words."""
    found = []
    if spec.get("for_each"):
        found.append("each item")
    if spec.get("repeat"):
        found.append("repeats")
    retry = spec.get("retry") or {}
    if retry.get("max_attempts", 1) > 1:
        found.append(f"{retry['max_attempts']} attempts")
    if spec.get("when"):
        found.append("if")
    return found


def _short(text: str, most: int = _MAX_CHARS) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
