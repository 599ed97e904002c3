"""What the documentation reads out of the code's text, because no object holds it: refusals, codes and log events."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

from gateway.locations.event import INVALID
from gateway.locations.settlement import MESSAGES

ROOT = Path(__file__).resolve().parents[2]
HANDSHAKE_MODULES = ("wire.handshake", "connections.accepting", "connections.admission")
# Where status or detail come from elsewhere: websockets' judgement, the token's, the PROXY header's.
STATUS = {"malformed": "400, 414, 431", "handshake": "400, 405, 426, 505"}
DETAIL = {
    ("503", "keys"): "the keys of the issuer are not known at the moment; try again",
    ("401", "token"): "why the token does not hold: expired, wrong signature, …",
    ("400", "proxy"): "what is wrong with the PROXY protocol header",
}
CODES = {
    "unknown_type": "no such message type; the answer lists those that are known",
    "invalid": "a field is missing, of the wrong type or out of range; the message ends with its path",
    "malformed": "not a JSON object",
    "forbidden": "the token lacks the scope `location:write`",
    "unavailable": "the new token cannot be checked now: the keys of the issuer are not known; the old one still holds",
}
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "critical": "critical"}


def refusals() -> list[tuple[str, str, str]]:
    """Status, reason and detail of every handshake refusal, sorted. Raises KeyError for one that is not known here."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in HANDSHAKE_MODULES:
        module = importlib.import_module(f"gateway.{name}")
        for call in _calls(_parse(Path(str(module.__file__)))):
            if _name(call) not in ("Rejected", "Refusal") or len(call.args) < 3:
                continue
            status, reason, detail = call.args[:3]
            if not isinstance(reason, ast.Constant):
                continue
            told = str(status.value) if isinstance(status, ast.Constant) else STATUS[reason.value]
            text = _text(detail, vars(module)) or DETAIL[told, reason.value]
            found.setdefault((told, reason.value), []).append(text)
    return [(status, reason, "; or: ".join(texts)) for (status, reason), texts in sorted(found.items())]


def codes_of_messages() -> Iterator[tuple[str, str, str]]:
    """Type of answer, code and meaning, of `nack` and `error`. Raises KeyError for a code that is not known here."""
    tree = [_parse(ROOT / f"gateway/protocol/{name}.py") for name in ("requests", "messages", "session")]
    errors: dict[str, str] = {}
    nacks = {INVALID: CODES[INVALID]}
    for call in (call for module in tree for call in _calls(module)):
        place = {"_error": 0, "Error": 0, "Nack": 1}.get(_name(call), -1)
        if 0 <= place < len(call.args):
            code = call.args[place]
            if isinstance(code, ast.Constant):
                (errors if place == 0 else nacks)[code.value] = CODES[code.value]
    yield from (("error", code, text) for code, text in errors.items())
    yield from (("nack", code, text) for code, text in (nacks | MESSAGES).items())


def log_events(
    folder: Path,
) -> tuple[list[tuple[str, str, str, list[str]]], list[tuple[str, str, str]]]:
    """Named events with level, part and fields; and sentences with level and module. Both sorted."""
    named: set[tuple[str, str, str, tuple[str, ...]]] = set()
    plain: set[tuple[str, str, str]] = set()
    for path in sorted(folder.rglob("*.py")):
        tree = _parse(path)
        part = _part(tree) or path.parent.name
        for call in _calls(tree):
            function = call.func
            if not isinstance(function, ast.Attribute) or not ast.unparse(function.value).endswith(("log", "_log")):
                continue
            level = "error" if function.attr == "exception" else LEVELS.get(function.attr)
            if level is None or not call.args or not isinstance(call.args[0], ast.Constant):
                continue
            event = str(call.args[0].value)
            if " " in event:
                module = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
                plain.add((event, level, f"`{module}`"))
            else:
                fields = tuple(word.arg for word in call.keywords if word.arg and word.arg != "exc_info")
                named.add((event, level, part, fields))
    return [(event, level, part, list(fields)) for event, level, part, fields in sorted(named)], sorted(plain)


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _part(tree: ast.Module) -> str | None:
    """The argument of `Log("…")`, where the module has one."""
    for call in _calls(tree):
        if _name(call) == "Log" and call.args and isinstance(call.args[0], ast.Constant):
            return str(call.args[0].value)
    return None


def _text(node: ast.expr, names: dict[str, object]) -> str:
    """A text with its constants filled in and `…` for what only a run knows; "" when all of it is unknown."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Constant):
        return str(node.value)
    if not isinstance(node, ast.JoinedStr):
        return ""
    parts = []
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts.append(str(value.value))
        elif isinstance(value, ast.FormattedValue):
            known = names.get(value.value.id) if isinstance(value.value, ast.Name) else None
            parts.append("…" if known is None else str(known))
    return "".join(parts)
