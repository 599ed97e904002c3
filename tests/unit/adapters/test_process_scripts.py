"""What a run's input says stays data: it never becomes a part of a script."""

from __future__ import annotations

import pytest

from gateway.adapters.process.scripts import problem

X = "echo ${input.x}"


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", X],
        ["sh", "-e", "-c", X],
        ["bash", "-ec", X],
        ["/bin/dash", "-o", "errexit", "-c", X],
        ["env", "A=b", "sh", "-c", X],
        ["env", "-S", f"sh -c '{X}'"],
        ["env", f"-Ssh -c '{X}'"],
        ["nice", "-n", "5", "sh", "-c", X],
        ["timeout", "5", "bash", "-c", X],
        ["busybox", "sh", "-c", X],
        ["sudo", "-u", "me", "sh", "-c", X],
        ["heiwa", "job", "run", "--", "sh", "-c", X],
        ["python3", "-c", "print(${input.x})"],
        ["python3.12", "-cprint(${input.x})"],
        ["perl", "-e", "print ${input.x}"],
        ["node", "--eval", "f(${input.x})"],
        ["php", "-r", X],
        ["sh", "-c", "echo 1", "sh", "-c", X],
    ],
)
def test_a_path_in_a_script_is_refused(command: list[str]) -> None:
    assert "run as code" in problem(command)


def test_a_path_as_the_program_is_refused() -> None:
    assert problem(["${input.x}"]) == "command: the program cannot come from a path"


@pytest.mark.parametrize(
    "command",
    [
        ["echo", "${input.x}"],
        ["sh", "-c", 'echo "$1"', "sh", "${input.x}"],
        ["sh", "job.sh", "${input.x}"],
        ["python3", "job.py", "--count", "${input.x}"],
        ["heiwa", "job", "run", "--", "python3", "job.py", "${input.x}"],
        ["sh", "-c", "echo hello"],
        ["env", "N=${input.x}", "python3", "job.py"],
    ],
)
def test_a_path_in_an_argument_is_data(command: list[str]) -> None:
    assert problem(command) == ""
