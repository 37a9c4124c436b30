"""What a shell completes: asked of the functions, and of argcomplete where that is installed."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from cmgems.cli import COMMANDS, build_parser, main
from cmgems.commands import completion


@pytest.mark.parametrize(
    ("command", "prefix", "wanted"),
    [
        ("pretrain", "qui", ["quickstart"]),
        ("evaluate", "few", ["few_shot"]),
        ("sweep", "rate", ["rate_search", "rates"]),
        ("experiments", "finetune/few", ["finetune/few_shot"]),
        ("data", "mm39/chr1", ["mm39/chr1", *(f"mm39/chr1{n}" for n in range(10))]),
    ],
)
def test_names(command, prefix, wanted):
    assert completion._names(command, prefix) == wanted


def test_keys_and_their_choices():
    assert completion._overrides("pretrain", "train.max") == ["train.max_steps="]
    choices = ["train.compile=auto", "train.compile=always", "train.compile=never"]
    assert completion._overrides("plan", "train.compile=") == choices
    assert completion._overrides("plan", "train.compile=al") == ["train.compile=always"]
    assert completion._overrides("plan", "run.resume=t") == ["run.resume=true"]
    assert completion._overrides("plan", "train.max_steps=") == []  # any number
    assert "tasks.root=" in completion._overrides("evaluate", "")
    assert "jobs=" in completion._overrides("sweep", "")


@pytest.mark.parametrize("command", ["pretrain", "evaluate", "sweep", "plan", "data", "inspect"])
def test_arguments_of_a_command_are_found(command):
    metavars = {a.metavar for a in completion._arguments(build_parser(command), command)}
    assert metavars & {"EXPERIMENT", "SWEEP", "NAME"}


def test_the_command_is_read_off_the_line(monkeypatch):
    monkeypatch.setenv("COMP_LINE", "cmgems --traceback plan cm_")
    assert completion.typed_command() == "plan"
    monkeypatch.setenv("COMP_LINE", "cmgems ")
    assert completion.typed_command() is None


@pytest.mark.skipif(find_spec("argcomplete") is None, reason="argcomplete (extra: completion)")
def test_as_a_shell_asks(tmp_path):
    def ask(line):
        answers = tmp_path / "answers"
        environment = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answers),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        command = [sys.executable, "-m", "cmgems"]
        subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)
        return [word.strip() for word in answers.read_text().split("\n")]

    assert ask("cmgems pre") == ["pretrain", "predict"]
    assert ask("cmgems pretrain quick") == ["quickstart"]
    assert ask("cmgems pretrain quickstart train.compile=n") == ["train.compile=never"]


def test_nothing_is_colored(capsys, monkeypatch):
    """So that NO_COLOR has nothing to turn off; not on a terminal either."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for words in (["experiments", "list"], ["data", "list"], ["data", "path", "hg38"]):
        main(words)
    for command in COMMANDS:
        assert "\x1b" not in build_parser(command).format_help()
    captured = capsys.readouterr()
    assert captured.out
    assert "\x1b" not in captured.out + captured.err
