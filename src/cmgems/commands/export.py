"""`cmgems export`: a model as a folder that Hugging Face's transformers reads."""

import argparse

DESCRIPTION = """\
Write a pretrained model as a Hugging Face folder: config.json, model.safetensors, tokenizer.json,
vocab.txt, and a model card with the figures of the run. Its logits in transformers equal ours.
BERT's blocks become a BertForMaskedLM, pre-norm with rotary positions an EsmForMaskedLM
(model.embedding_norm=false) or, with model.mlp=geglu, a ModernBertForMaskedLM; transformers has no
class for other encoders. A classifier that `cmgems evaluate` saved (save_classifiers=true) becomes
a BertForSequenceClassification; its head must be cls.
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
        help="a run folder (its best checkpoint), a checkpoint in one, or a kept classifier",
    )
    parser.add_argument("folder", metavar="DIR", help="a new or empty folder")


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from cmgems.hub.families import family_of
    from cmgems.hub.folder import check_empty, write_folder
    from cmgems.hub.model_card import render_card
    from cmgems.hub.pretrained import load_pretrained

    folder = Path(args.folder)
    check_empty(folder)
    if (Path(args.run) / "classifier.json").is_file():
        from cmgems.evaluation.finetuning.classifier import export_classifier

        export_classifier(Path(args.run), folder)
        print(f'{folder}: AutoModelForSequenceClassification.from_pretrained("{folder}") reads it')
        return
    found = load_pretrained(args.run)
    family, config = family_of(found.model.encoder.config), found.model.encoder.config
    weights, settings = family.weights(found.model), family.config(config, found.k)
    write_folder(folder, weights, settings, found.k, render_card(found, folder.resolve().name))
    print(f'{folder}: AutoModelForMaskedLM.from_pretrained("{folder}") reads it')
