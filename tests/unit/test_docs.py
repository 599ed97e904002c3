"""The documentation against the code: generated pages, links, commands, settings, and the two READMEs."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from gateway.cli.main import app
from gateway.identity.identity import SCOPES
from gateway.settings.load import load
from loadtest.cli.main import app as loadtest_app
from loadtest.scenario import parsing, shipped
from loadtest.scenario.client_models import CLIENT_MODELS

ROOT = Path(__file__).resolve().parents[2]
HAND_MADE = ("README.md", "README.ja.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = [ROOT / name for name in HAND_MADE] + sorted((ROOT / "docs").rglob("*.md"))
# Beside what they speak of.
BESIDE = [ROOT / name for name in ("ecs/README.md", "findings/README.md", "loadtest/tracks/README.md")]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# A heiwa command up to the end of its arguments; quoted parts may hold anything.
COMMAND = re.compile(r"""(?:^|[\s(/])heiwa((?:\s+(?:'[^']*'|"[^"]*"|[^\s|;&()'"]+))+)""")
MAKE = re.compile(r"(?:^|\s)make\s+([a-z-]+)")


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _blocks(path: Path, language: str) -> Iterator[str]:
    return (body for kind, body in FENCE.findall(path.read_text("utf-8")) if kind == language)


LOADTEST = "heiwa-loadtest "
# Their TOML blocks are scenarios, those of all others are settings.
SCENARIO_PAGES = ("load-test.md", "record-and-replay.md", "rehearse-a-deploy.md")


def _console_lines() -> Iterator[tuple[str, str]]:
    for path in PAGES:
        for block in _blocks(path, "console"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("$ "):
                    yield str(path.relative_to(ROOT)), line.removeprefix("$ ")


def _anchors(path: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    text = FENCE.sub("", path.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


CONSOLE = list(_console_lines())


@pytest.mark.parametrize(("name", "text"), _generator().pages().items())
def test_a_generated_page_is_what_the_code_says(name: str, text: str) -> None:
    assert (ROOT / name).read_text("utf-8") == text, "run: make docs"


@pytest.mark.parametrize("path", [*PAGES, *BESIDE], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", path.read_text("utf-8"))):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        # Written by `make bench`.
        if found == ROOT / "docs/benchmarks.md":
            continue
        if not found.exists() or (anchor and found.suffix == ".md" and anchor not in _anchors(found)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_page_is_reached_from_the_index(path: Path) -> None:
    reached = {ROOT / name for name in HAND_MADE} | {ROOT / "docs/README.md", ROOT / "docs/benchmarks.md"}
    index = ROOT / "docs/README.md"
    reached |= {(index.parent / target.partition("#")[0]).resolve() for target in LINK.findall(index.read_text())}
    assert path in reached


def test_commands_and_options_exist() -> None:
    group: Any = typer.main.get_command(app)
    seen = 0
    for page, line in CONSOLE:
        for arguments in COMMAND.findall(line):
            words = shlex.split(arguments)
            if words[0].startswith("-"):
                continue
            assert words[0] in group.commands, f"{page}: heiwa {words[0]}"
            command = group.commands[words[0]]
            if hasattr(command, "commands"):
                assert words[1] in command.commands, f"{page}: heiwa {words[0]} {words[1]}"
                command = command.commands[words[1]]
            known = {name for option in command.params for name in option.opts} | {"--help", "-h"}
            unknown = [
                word for word in words[1:] if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known
            ]
            assert not unknown, f"{page}: {line}"
            seen += 1
    assert seen > 10


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page, line in CONSOLE:
        for target in MAKE.findall(line):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page}: make {target}"


def test_settings_given_in_commands_can_be_loaded(tmp_path: Path) -> None:
    empty = tmp_path / "heiwa.toml"
    empty.touch()
    lines = [line for _, line in CONSOLE if not line.startswith(LOADTEST)]
    flags = [flag for line in lines for flag in re.findall(r"--set ([a-z_]+\.\S+)", line)]
    assert len(flags) > 5
    # The one that shows what a misspelt key leads to.
    load(empty, {}, [flag for flag in flags if not flag.startswith("connections.hartbeat_s")])


def test_settings_files_can_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "heiwa.toml"
    blocks = [block for page in PAGES if page.name not in SCENARIO_PAGES for block in _blocks(page, "toml")]
    assert blocks
    for block in blocks:
        path.write_text(block)
        load(path, {})


def test_commands_of_the_load_test_exist() -> None:
    group: Any = typer.main.get_command(loadtest_app)
    lines = [line for _, line in CONSOLE if line.startswith(LOADTEST)]
    assert lines
    for line in lines:
        _, command, *words = shlex.split(line)
        known = {name for option in group.commands[command].params for name in option.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
        if command == "run":
            overrides = [flag for flag, before in zip(words[1:], words, strict=False) if before == "--set"]
            path = shipped.FOLDER / f"{words[0]}.toml"
            parsing.parse(path.read_text() if path.exists() else "", line, parsing.read_overrides(overrides))


def test_scenarios_can_be_loaded() -> None:
    for name in SCENARIO_PAGES:
        for block in _blocks(ROOT / "docs/how-to" / name, "toml"):
            parsing.parse(block, name)


def test_scopes_exist() -> None:
    for _, line in CONSOLE:
        for scope in re.findall(r"--scope '([^']+)'", line):
            assert set(scope.split()) <= SCOPES


@pytest.mark.parametrize("language", ["console", "toml", "json", "python", "text"])
def test_both_readmes_have_the_same_blocks(language: str) -> None:
    english, japanese = (list(_blocks(ROOT / name, language)) for name in ("README.md", "README.ja.md"))
    assert english == japanese


def test_both_readmes_have_the_same_shape() -> None:
    def shape(name: str) -> tuple[list[str], list[int], list[str]]:
        text = FENCE.sub("", (ROOT / name).read_text("utf-8"))
        headings = re.findall(r"^(#+) ", text, re.MULTILINE)
        tables = [block.count("\n") for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
        links = [link for link in LINK.findall(text) if link not in ("README.md", "README.ja.md")]
        return headings, tables, links

    assert shape("README.md") == shape("README.ja.md")


def test_examples_compile() -> None:
    for path in (ROOT / "docs/examples").glob("*.py"):
        compile(path.read_text(), str(path), "exec")


def test_the_page_of_the_load_test_knows_every_client_model_and_scenario() -> None:
    text = (ROOT / "docs/how-to/load-test.md").read_text("utf-8")
    scenarios = [name for name in shipped.names() if not name.startswith("deploy-")]
    assert not [name for name in [*CLIENT_MODELS, *scenarios] if f"| `{name}`" not in text]
