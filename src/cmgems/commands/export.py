"""`cmgems export`: a model as a folder that Hugging Face's transformers reads."""

import argparse
from pathlib import Path

from cmgems.utils.outputs import check_output_folder

DESCRIPTION = """\
Write a pretrained model as a Hugging Face folder: config.json, model.safetensors, tokenizer.json,
vocab.txt, and a model card with the results of the run. Its logits in transformers equal those of
cmgems. BERT's blocks become a BertForMaskedLM, pre-norm with rotary or learned positions an
EsmForMaskedLM (model.embedding_norm=false) or, rotary and with model.mlp=geglu, a
ModernBertForMaskedLM. transformers has no class for other encoders (convolutions, ALiBi, SwiGLU):
their folder has modeling_cmgems.py beside the weights, a module in plain torch that computes them
and needs nothing of cmgems. A classifier that `cmgems evaluate` saved (save_classifiers=true)
becomes a BertForSequenceClassification; its head must be cls.
"""
EXAMPLES = """\
examples:
  cmgems export runs/quickstart exported/quickstart
  cmgems export runs/quickstart/checkpoints/last.ckpt exported/last
  cmgems export evaluations/gue/classifiers/gue-mouse-0-quickstart-0 exported/mouse-0

In Python: AutoModelForMaskedLM.from_pretrained("exported/quickstart").
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run folder (its best checkpoint), a checkpoint in one, or a saved classifier",
    )
    parser.add_argument("folder", metavar="DIR", help="a new or empty folder")


def run(args: argparse.Namespace) -> None:
    source, folder = Path(args.run), Path(args.folder)
    # Heavy imports are inside the functions: `--help` must answer at once.
    from cmgems.hub.folder import check_empty

    check_empty(folder)
    check_output_folder(folder, "DIR")
    if (source / "classifier.json").is_file():
        from cmgems.evaluation.finetuning.classifier import export_classifier

        export_classifier(source, folder)
        auto_class = "AutoModelForSequenceClassification"
    else:
        reason = export_pretrained(source, folder)
        if reason:
            print(f"{reason}")
            print(f'{folder}: its modeling_cmgems.py computes it in plain torch: load("{folder}")')
            return
        auto_class = "AutoModelForMaskedLM"
    print(f'{folder}: {auto_class}.from_pretrained("{folder}") reads it')


def export_pretrained(source: Path, folder: Path) -> str:
    """Write it; returns why no class of transformers computes it, or nothing."""
    from cmgems.hub.families import family_of, why_no_class
    from cmgems.hub.folder import write_folder
    from cmgems.hub.model_card import render_card
    from cmgems.hub.pretrained import load_pretrained

    pretrained = load_pretrained(source)
    pretrained.require_head()
    family = family_of(pretrained.model.encoder.config)
    config = family.config(pretrained.model.encoder.config, pretrained.tokenization)
    card = render_card(pretrained, folder.resolve().name)
    weights = family.weights(pretrained.model)
    write_folder(folder, weights, config, pretrained.tokenization, card, family.module)
    return why_no_class(pretrained.model.encoder.config)
