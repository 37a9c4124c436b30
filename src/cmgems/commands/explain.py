"""`cmgems explain`: per base, what a model looks at."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmgems.commands.sequence_inputs import add_input_options, check_input_options, open_input
from cmgems.errors import UserError
from cmgems.utils.outputs import check_output_folder

if TYPE_CHECKING:
    from cmgems.explanation.explainer import Explainer

DESCRIPTION = """\
Explain what a model looks at, base by base, as arrays, a track, a logo and one HTML page.

MODEL is a classifier that `cmgems evaluate ... save_classifiers=true` saved, or a language model: a
run folder, a checkpoint in one, or a Hugging Face folder. INPUT is what `cmgems predict` takes.

  of a classifier        in-silico mutagenesis: the change of the log-odds of one class (or of the
                         value of a regression) by each substitution of a base; --gradients: its
                         first-order estimate as well
  of a language model    the distribution of each base, hidden, and ln p(other base) - ln p(base);
                         --dependencies BASES: how the distribution of each of the middle bases
                         answers to a change of each other
  of either              --attention BASES: which of the middle bases attends to which, in each head
                         of each layer; --motifs FILE: which motifs are where the importance is high

DIR gets explanations.npz (arrays by sequence, base and substitution), importance.bedGraph (the mean
loss by the three substitutions of a base), logo.png (the mean over all sequences, if they have one
length), motifs.tsv and index.html. An interrupted call resumes when it is given again.
"""
EXAMPLES = """\
examples:
  cmgems explain evaluations/donors/classifiers/donors-a-0 donors.bed --genome hg38.fa \\
      --window 61 --center start --gradients --out explained/donors
  cmgems explain runs/quickstart promoters.fa --dependencies 40 --out explained/promoters
  cmgems explain evaluations/ctcf/classifiers/ctcf-a-0 ctcf.bed --genome hg38.fa --window 200 \\
      --motifs JASPAR_CORE_vertebrates.txt --out explained/ctcf
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLES
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL")
    add_input_options(parser)
    add("--out", type=Path, required=True, metavar="DIR", help="new folder to write")
    add("--class", dest="name", default="", metavar="CLASS",
        help="class of a classifier; default: the second of two")  # fmt: skip
    add("--gradients", action="store_true",
        help="also the first-order estimate of a classifier's effects, by one backward "
        "pass")  # fmt: skip
    add("--dependencies", type=int, default=0, metavar="BASES",
        help="also the dependencies between so many bases in the middle, of a language model; they "
        "cost three passes for each pair (default 0)")  # fmt: skip
    add("--attention", type=int, default=0, metavar="BASES",
        help="also the attention of so many bases in the middle to each other, by layer and head "
        "(default 0)")  # fmt: skip
    add("--motifs", default="", metavar="FILE",
        help="which motifs are where the importance is high: matrices of JASPAR or MEME, lines of "
        "a name and a consensus, or `jaspar` (extra [motifs])")  # fmt: skip
    add("--shown", type=int, default=60, metavar="BASES",
        help="bases in the middle that logos and the page show (default 60)")  # fmt: skip
    add("--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="a CUDA GPU where there is one (default)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    check_input_options(args)
    for option, found, least in (
        ("dependencies", args.dependencies, 0),
        ("attention", args.attention, 0),
        ("shown", args.shown, 1),
    ):
        if found < least:
            raise UserError(f"--{option}: found {found}, wanted {least} or more bases")
    check_output_folder(args.out, "--out")

    # Heavy imports are in here: `--help` must answer at once.
    from cmgems.explanation.explain import explain_input
    from cmgems.inference.motifs import read_motifs

    motifs = read_motifs(args.motifs) if args.motifs else []
    explainer, window, weights = _open_model(args)
    source = open_input(args, args.window or window, explainer.tokenization.min_bases)
    record = _record(args, weights)
    print(explain_input(explainer, source, args.out, record, args.shown, motifs))


def _open_model(args: argparse.Namespace) -> tuple["Explainer", int, str]:
    """The model, the bases of its task (0: not known), and the sha256 of its weights."""
    from cmgems.cost.device import choose_device
    from cmgems.evaluation.finetuning.classifier import DESCRIPTION as CLASSIFIER
    from cmgems.evaluation.finetuning.classifier import WEIGHTS, load_classifier
    from cmgems.evaluation.prediction.predictor import Predictor
    from cmgems.explanation.of_classifier import ClassifierExplainer
    from cmgems.explanation.of_language_model import LanguageModelExplainer
    from cmgems.hub.pretrained import load_pretrained
    from cmgems.utils.files import hash_file

    device = choose_device(args.device, "--device").type
    if (args.model / CLASSIFIER).is_file():
        if args.dependencies:
            raise UserError(f"--dependencies: found {args.model}, wanted a language model")
        loaded = load_classifier(args.model)
        try:
            explainer = ClassifierExplainer(
                Predictor(loaded, device), args.name, args.gradients, args.attention
            )
        except UserError as error:
            raise UserError(f"{args.model}: {error}") from error
        return explainer, loaded.description.get("length", 0), hash_file(args.model / WEIGHTS)
    if args.name or args.gradients:
        raise UserError(f"--class and --gradients: found {args.model}, wanted a classifier")
    pretrained = load_pretrained(args.model)
    model, tokenization = pretrained.model.to(device), pretrained.tokenization
    try:
        of_model = LanguageModelExplainer(model, tokenization, args.dependencies, args.attention)
    except UserError as error:
        raise UserError(f"{args.model}: {error}") from error
    return of_model, 0, pretrained.sha256


def _record(args: argparse.Namespace, weights: str) -> dict[str, Any]:
    """All that the explanations depend on."""
    from cmgems.genome.cache import load_genome
    from cmgems.utils.files import hash_file

    file = Path(args.input.rpartition(":")[0] or args.input)  # of FILE.gtf:FEATURE
    record = {
        "model": str(args.model),
        "weights": weights,
        "input": args.input or args.region,
        "input_sha256": hash_file(file) if file.is_file() else "",
        "genome_sha256": load_genome(args.genome).sha256 if args.genome else "",
    }
    places = ("genome", "window", "center", "step", "strand")
    what = ("name", "gradients", "dependencies", "attention", "motifs")
    return record | {name: getattr(args, name) for name in (*places, *what)}
