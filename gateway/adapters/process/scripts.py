"""Whether a command holds code that a path of an expression would become a part of. Pure.

What a run's input says must stay data: a text that a shell or an interpreter reads as its script is code. Programs that
begin others (`env`, `timeout`, `sudo`, `heiwa job run`) are looked through.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath

# Behind these options stands a script; a shell's may be one of several letters.
_SHELL = re.compile(r"(ba|da|z|k|mk|a|fi|c|tc)?sh")
_SHELL_OPTION = re.compile(r"-[A-Za-z]*c[A-Za-z]*|--command")
_INTERPRETERS = (
    (re.compile(r"python[\d.]*|pypy[\d.]*"), ("-c",)),
    (re.compile(r"perl[\d.]*|ruby[\d.]*|lua[\d.]*"), ("-e", "-E")),
    (re.compile(r"node|nodejs|bun|deno"), ("-e", "--eval", "-p", "--print", "eval")),
    (re.compile(r"php[\d.]*"), ("-r",)),
)


def problem(command: Sequence[str]) -> str:
    """What is wrong with it, its expressions not replaced; "": nothing."""
    if "${" in command[0]:
        return "command: the program cannot come from a path"
    if any("${" in script for script in _scripts(command)):
        return (
            "command: a path in a script would be run as code; give it by environment and write $NAME, or as a word "
            'behind the script and write "$1"'
        )
    return ""


def _scripts(command: Sequence[str]) -> Iterator[str]:
    for place, word in enumerate(command):
        program, rest = PurePath(word).name, command[place + 1 :]
        if _SHELL.fullmatch(program):
            yield from _behind(rest, lambda option: _SHELL_OPTION.fullmatch(option) is not None)
        for pattern, options in _INTERPRETERS:
            if pattern.fullmatch(program):
                yield from _behind(rest, options.__contains__)
                yield from (one for one in rest if one.startswith(options) and one not in options)
        if program == "env":
            # It splits one word into a command.
            yield from (one for one in rest if one.startswith(("-S", "--split-string")))
            yield from _behind(rest, ("-S", "--split-string").__contains__)


def _behind(rest: Sequence[str], is_option: Callable[[str], bool]) -> Iterator[str]:
    """The word behind the first such option."""
    for place, word in enumerate(rest[:-1]):
        if is_option(word):
            yield rest[place + 1]
            return
