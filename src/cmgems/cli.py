"""The command line: `cmgems COMMAND ...`, also `python -m cmgems COMMAND ...`.

Exit codes: 0 done; 1 an internal failure, or a run that could not go on; 2 something the user gave
cannot be used, or the system refuses to write, in one line on standard error; 130 interrupted
(Ctrl-C), 143 terminated (SIGTERM), 129 and 138 by SIGHUP and SIGUSR1.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from cmgems import __version__
from cmgems.errors import RunFailed, RunStopped, UserError
from cmgems.utils.escapes import message_line
from cmgems.utils.outputs import system_message

# name -> (module with configure() and run(), one line for the overview)
COMMANDS = {
    "genome": ("cmgems.commands.genome", "build a genome store from FASTA, 2bit or GenBank files"),
    "pmi": ("cmgems.commands.pmi", "compute the PMI of k-mers, which ranks them for masking"),
    "inspect": (
        "cmgems.commands.inspect",
        "show the masks of an experiment on real sequence, as a page",
    ),
    "check-masking": ("cmgems.commands.check_masking", "check the masks of a custom strategy"),
    "experiments": (
        "cmgems.commands.experiments",
        "list, show and copy the package's experiments",
    ),
    "data": ("cmgems.commands.data", "fetch public genomes and tasks by name"),
    "plan": ("cmgems.commands.plan", "estimate what an experiment costs: FLOPs, memory, hours"),
    "pretrain": ("cmgems.commands.pretrain", "pretrain a gene transformer from an experiment file"),
    "sweep": ("cmgems.commands.sweep", "run many experiments from one file: grid, list or search"),
    "branch": ("cmgems.commands.branch", "end runs at smaller budgets, from their checkpoints"),
    "compare": ("cmgems.commands.compare", "compare finished runs: tables, plots and a verdict"),
    "evaluate": ("cmgems.commands.evaluate", "score pretrained models on labelled tasks"),
    "score": ("cmgems.commands.score", "score sequences and variants zero-shot, by likelihood"),
    "predict": ("cmgems.commands.predict", "predict with a classifier that evaluate has saved"),
    "explain": ("cmgems.commands.explain", "show per base what a model looks at"),
    "embed": ("cmgems.commands.embed", "embed sequences with a pretrained model"),
    "doctor": ("cmgems.commands.doctor", "show versions, devices and what is missing"),
    "export": (
        "cmgems.commands.export",
        "export a model as a folder for Hugging Face transformers",
    ),
}

EPILOG = """\
examples:
  cmgems pretrain quickstart
  cmgems pretrain experiments/pretrain/cm_gems.yaml data.genome=hg38.fa train.max_steps=10000
  cmgems evaluate experiments/finetune/quickstart.yaml models=runs/quickstart
  cmgems sweep experiments/sweep/maskings.yaml jobs=2
  cmgems compare runs/maskings
  cmgems genome chr20.fa --out stores/chr20
  cmgems pmi stores/chr20 --k 6 --out chr20.pmi.tsv

`cmgems COMMAND --help` explains a command, with examples.
"""


# How often an OpenMP thread of torch looks for work before it sleeps. At the library's 300,000
# both threads occupy a core that other processes need: on a busy machine that was 5 times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# Matrix products that oneDNN, and torch's layer over it, cache compiled. Nearly every batch has a
# new shape, so few are used again. The libraries cache 1,024 each, scattered over the heap: with
# those, 600 steps of cm_gems.yaml grew to 3.0 GB, with these to 1.0 GB.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
os.environ.setdefault("LRU_CACHE_CAPACITY", "32")


def main(argv: Sequence[str] | None = None) -> int:
    if "_ARGCOMPLETE" in os.environ:
        complete()
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in argv if not word.startswith("-")), None)
    parser = build_parser(command)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):  # a name in another encoding is no reason to end
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        importlib.import_module(COMMANDS[args.command][0]).run(args)
        sys.stdout.flush()
    except UserError as error:
        if args.traceback:
            raise
        print(message_line(f"cmgems {args.command}: {error}"), file=sys.stderr)
        return 2
    except RunFailed as error:
        print(message_line(f"cmgems {args.command}: {error}"), file=sys.stderr)
        return error.exit_code
    except RunStopped as stopped:
        print(f"cmgems {args.command}: {stopped}", file=sys.stderr)
        return 128 + stopped.signal_number
    except KeyboardInterrupt:
        print(f"cmgems {args.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output (`head`, a closed pager) has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:  # a full disk, a folder that cannot be written
        if args.traceback:
            raise
        report_system_error(args.command, error)
        return 2
    return 0


def complete() -> None:
    """Answer a shell that completes a line, which ends the process."""
    from cmgems.commands import completion  # else not needed

    command = completion.typed_command()
    known = command if command in COMMANDS else None
    completion.answer(build_parser(known), known)


def replace_closed_streams() -> None:
    """Let a standard stream that the caller has closed (`>&-`) be /dev/null.

    Otherwise the next file that is opened gets its number, and whatever a library prints is written
    into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115


def report_system_error(command: str, error: OSError) -> None:
    """Print the file and the system's reason. An error that names no file may be of our output."""
    try:
        sys.stdout.flush()
        place = ""
    except OSError:
        place = "standard output: "
        # So that Python does not try again when it ends.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    print(message_line(f"cmgems {command}: {place}{system_message(error)}"), file=sys.stderr)


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The whole parser; only the module of the chosen command is imported."""
    parser = argparse.ArgumentParser(
        prog="cmgems",
        description="Curriculum masking for gene transformers: pretraining on DNA.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cmgems {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        sub.add_argument("--traceback", action="store_true", help="show where an error came from")
        if name == chosen:
            importlib.import_module(module).configure(sub)
    return parser
