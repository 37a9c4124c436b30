"""The command line: help, exit codes, one line for what the user got wrong, nothing left behind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.paths import EXPERIMENTS

from cmgems import __version__
from cmgems.cli import COMMANDS, EPILOG, main
from cmgems.errors import UserError

CM_GEMS = str(EXPERIMENTS / "pretrain/cm_gems.yaml")


def refused(capsys, *argv):
    """Exit code 2 and the one line on standard error, without the command's name."""
    assert main([str(word) for word in argv]) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert captured.out == ""
    return lines[0].removeprefix(f"cmgems {argv[0]}: ")


def test_help_needs_nothing_heavy():
    code = (
        "import sys; from cmgems.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'lightning', 'numba', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for name, (_, text) in COMMANDS.items():
        assert re.search(rf"^    {name}\s+{re.escape(text)}$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"examples:\n  cmgems {command} " in capsys.readouterr().out


def test_version_and_no_command(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"cmgems {__version__}\n"
    assert main([]) == 2
    with pytest.raises(SystemExit) as stopped:
        main(["pretain"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.fa", None, "does not exist"),
        ("empty.fa", b"", "empty"),
        ("header.fa", b">chr1\n", "no sequence"),
        ("protein.fa", b">p\nMKVLAAGIVGLLLAQWERTYIPSDFGHKLCVNM\n", "line 2"),
        ("cut.fa.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03K\xcd", "gzip"),
        ("short.fa", b">a\n" + b"ACGT" * 20 + b"\n", "known bases"),
        ("all_n.fa", b">a\n" + b"N" * 5000 + b"\n", "has no A, C, G or T"),
    ],
)
def test_pretrain_refuses_a_genome(name, content, message, tmp_path, capsys):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    run = tmp_path / "run"
    line = refused(capsys, "pretrain", CM_GEMS, f"data.genome={path}", f"run.dir={run}")
    assert message in line
    assert name.split(".")[0] in line
    assert not run.exists()


def test_pretrain_refuses_a_folder_as_genome(tmp_path, capsys):
    line = refused(capsys, "pretrain", CM_GEMS, f"data.genome={tmp_path}")
    assert str(tmp_path) in line


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optim.learning_rte=1",
            "optim.learning_rte: no such key; did you mean optim.learning_rate?",
        ),
        ("train.max_steps=many", "train.max_steps: found 'many', wanted a whole number"),
        (
            "train.global_batch_size=7",
            "train.global_batch_size: found 7, wanted a multiple of train.micro_batch_size",
        ),
        ("model.num_heads=7", "model.hidden_size: found 128, wanted a multiple of 2 x 7 heads"),
        (
            "data.window_length=5000",
            "5000 bases are 4997 tokens with [CLS] and [SEP], wanted at most",
        ),
        ("pmi.table=no.tsv", "no.tsv"),
        ("train.accelerator=cuda", "train.accelerator: found no CUDA GPU"),
        ("run.resume=true", "holds no run (no config.yaml) to resume"),
    ],
)
def test_pretrain_refuses_keys(override, message, tmp_path, capsys):
    run = tmp_path / "run"
    assert message in refused(capsys, "pretrain", CM_GEMS, f"run.dir={run}", override)
    assert not run.exists()


def test_traceback_on_request(tmp_path):
    with pytest.raises(UserError):
        main(["pretrain", str(tmp_path / "no.yaml"), "--traceback"])


def test_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "cmgems", "pretrain", "no.yaml"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == ("cmgems pretrain: no.yaml: no such file, wanted an experiment (YAML)\n")


ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RECIPES = sorted((ROOT / "docs/cluster").glob("*.yaml"))
# endings of file names that look like keys: `train.tsv`
FILES = ("csv", "fna", "journal", "json", "md", "safetensors", "tsv")


def listed_keys(capsys, *commands):
    """The keys that the help of these commands lists."""
    for command in commands:
        with pytest.raises(SystemExit):
            main([command, "--help"])
    return set(re.findall(r"^  ([a-z0-9_.]+) = ", capsys.readouterr().out, re.MULTILINE))


def recipe_texts(path):
    """The texts of a recipe for a cluster, as YAML has them."""
    todo = [yaml.safe_load(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, dict | list):
            todo += node.values() if isinstance(node, dict) else node
        elif isinstance(node, str):
            yield node


def test_recipes_for_clusters_have_commands():
    assert {path.stem for path in RECIPES} == {"kubernetes", "skypilot"}
    lines = [line.values[0] for line in command_lines()]
    for path in RECIPES:
        ours = [text for text in recipe_texts(path) if "cmgems " in text]
        assert any(line in " ".join(text.split()) for text in ours for line in lines), path


def command_lines():
    """Every `cmgems pretrain|evaluate|plan|sweep ... key=value` of the help, README and docs."""
    texts = {path.name: path.read_text() for path in DOCS} | {"cli.py": EPILOG}
    texts |= {path.name: "\n".join(recipe_texts(path)) for path in RECIPES}
    for name, text in texts.items():
        for line in text.replace("\\\n", " ").splitlines():
            line = line.split(" #")[0].strip().removeprefix("exec ")
            if re.match(r"cmgems (pretrain|evaluate|plan|sweep) ", line):
                yield pytest.param(line, id=f"{name}: {line}")


@pytest.mark.parametrize("line", command_lines())
def test_keys_in_help_and_docs_are_keys(line, capsys):
    commands = {"plan": ["pretrain"], "sweep": ["sweep", "pretrain"]}
    command = line.split()[1]
    known = listed_keys(capsys, *commands.get(command, [command]))
    keys = [word.split("=")[0] for word in line.split() if re.match(r"[a-z_.]+=", word)]
    if command == "sweep":  # `axes` and `set` hold keys
        keys = [re.sub(r"^(axes|set)\.", "", key) for key in keys]
    assert [key for key in keys if key not in known] == []
    files = [word for word in line.split() if word.startswith("experiments/")]
    assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_keys_in_the_text_of_docs_are_keys(path, capsys):
    known = listed_keys(capsys, "pretrain", "evaluate", "sweep")
    sections = {key.split(".")[0] for key in known if "." in key}
    # without the earlier names in docs/initialisation.md, and without what runs as a test
    text = re.sub(r"\| earlier name \|.*?(?:\n\n|\Z)", "", path.read_text(), flags=re.DOTALL)
    text = re.sub(r"```(pycon|diff)\n.*?```", "", text, flags=re.DOTALL)
    words = re.findall(rf"(?<![\w./-])(?:{'|'.join(sections)})\.[a-z][a-z0-9_.]*", text)
    keys = {word.rstrip(".") for word in words if not word.endswith(FILES)}
    groups = {key[:i] for key in known for i, letter in enumerate(key) if letter == "."}
    assert keys - known - groups == set()


def test_experiments_in_docs_have_keys(capsys):
    known = listed_keys(capsys, "pretrain") | {"extends"}
    sections = {key.split(".")[0] for key in known}
    blocks = [
        yaml.safe_load(block)
        for path in DOCS
        for block in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)
    ]
    experiments = [block for block in blocks if set(block) <= sections]
    assert len(experiments) >= 3
    for experiment in experiments:
        assert set(leaf_names(experiment)) <= known


def leaf_names(block, prefix=""):
    for name, value in block.items():
        if isinstance(value, dict):
            yield from leaf_names(value, f"{prefix}{name}.")
        else:
            yield prefix + name
