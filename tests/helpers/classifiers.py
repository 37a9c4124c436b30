"""Saved classifiers with random weights."""

import torch
from helpers.encoders import tiny_config

from cmgems.evaluation.finetuning.classifier import Classifier, save_classifier
from cmgems.evaluation.finetuning.heads import build_head
from cmgems.evaluation.finetuning.train import LabelScale
from cmgems.evaluation.sources import ModelSource
from cmgems.models.encoder import Encoder
from cmgems.tasks.task import Task

KINDS = {
    "binary": ("low", "high"),
    "multiclass": ("none", "donor", "acceptor"),
    "multilabel": ("a", "b"),
    "regression": (),
}


def save_random_classifier(folder, kind, strands, tokenization):
    """A classifier of a kind, with a head that knows positions; binary ones of 30 bases."""
    torch.manual_seed(0)
    classes = KINDS[kind]
    encoder = Encoder(tiny_config(vocab_size=tokenization.vocab_size)).eval()
    head = build_head("position", 32, max(len(classes), 1), 40, [1])
    torch.nn.init.normal_(head.place, std=2.0)
    source = ModelSource("untrained", "", 0, tokenization, encoder.config, "")
    task = Task("made", "user", kind, classes, "mcc", 30 * (kind == "binary"), "", {})
    scale = LabelScale(kind, 5.0, 3.0)
    save_classifier(folder, Classifier(encoder, head), source, task, strands, scale)
    return folder
