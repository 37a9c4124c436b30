"""One fine-tuned classifier: an encoder with a head, to keep, to load and to hand on.

A folder holds `classifier.json` (sizes, k, head, classes, where it comes from) and
`classifier.safetensors`. One with the head `cls` can be written as a Hugging Face folder, which
`BertForSequenceClassification.from_pretrained` opens with the same logits.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from cmgems.errors import UserError
from cmgems.evaluation.finetuning.heads import Head, build_head
from cmgems.evaluation.finetuning.train import Classifiers
from cmgems.evaluation.sources import ModelSource
from cmgems.hub.bert_weights import MODEL_CLASS, bert_config, classifier_states
from cmgems.hub.families import family_of
from cmgems.hub.folder import write_folder
from cmgems.inference.encode import arithmetic, states_of
from cmgems.models.dropout import SeededDropout
from cmgems.models.encoder import Encoder, EncoderConfig
from cmgems.models.stacked import StackedLinear, unstack
from cmgems.tasks.task import Task
from cmgems.tasks.tokens import Tokens
from cmgems.utils.files import atomic_write

DESCRIPTION, WEIGHTS = "classifier.json", "classifier.safetensors"


class Classifier(nn.Module):
    """An encoder and a head (of one model)."""

    def __init__(self, encoder: Encoder, head: Head):
        super().__init__()
        self.encoder, self.head = encoder, head

    @torch.no_grad()
    def forward(self, tokens: Tokens, bf16: bool = False) -> Tensor:
        """Logits [B, C] of a batch, of the head `token` [B, L, C]; nothing is dropped."""
        device = self.encoder.tokens.weight.device
        real = tokens.attention_mask().to(device)[None]
        with arithmetic(device, bf16):
            states = self.head.reduce(states_of(self.encoder, tokens)[None], real)
            return self.head(states, real, SeededDropout(0.0, [0]))[0].float()


class Loaded(NamedTuple):
    classifier: Classifier
    k: int
    head: str
    description: dict


def classifiers_of(stack: Classifiers, encoder: Encoder) -> list[Classifier]:
    """The models of a stack, each on its own; `encoder` is the body of frozen ones."""
    found = []
    name = {type(stack.head).__name__.lower(): type(stack.head)}
    for number in range(len(next(stack.head.parameters()))):
        states = {
            part: x[number : number + 1].clone() for part, x in stack.head.state_dict().items()
        }
        shape, outputs = encoder.config, _outputs(states)
        head = build_head(
            next(iter(name)), shape.hidden_size, outputs, shape.max_position_embeddings, [0]
        )
        head.load_state_dict(states)
        body = encoder if stack.body is None else unstack(stack.body, number)
        found.append(Classifier(body, head))
    return found


def _outputs(states: dict[str, Tensor]) -> int:
    """Classes, from the last bias of a head."""
    return (states["out.bias"] if "out.bias" in states else states["bias"]).shape[-1]


def save_classifier(folder: Path, classifier: Classifier, source: ModelSource, task: Task) -> None:
    """Write a classifier; one of that name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    states = {name: x.detach().cpu().contiguous() for name, x in classifier.state_dict().items()}
    with atomic_write(folder / WEIGHTS, "wb") as handle:
        handle.write(safetensors.torch.save(states))
    description = {
        "shape": asdict(classifier.encoder.config),
        "k": source.k,
        "head": type(classifier.head).__name__.lower(),
        "kind": task.kind,
        "classes": list(task.classes),
        "task": task.name,
        "pretrained": {"source": source.name, "sha256": source.sha256, "step": source.step},
    }
    with atomic_write(folder / DESCRIPTION) as handle:
        json.dump(description, handle, indent=2)


def load_classifier(folder: Path) -> Loaded:
    """Read what `save_classifier` wrote.

    Raises
    ------
    UserError
        If there is nothing of the kind, or it is damaged.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        states = safetensors.torch.load_file(folder / WEIGHTS)
        shape = EncoderConfig(**description["shape"])
        outputs = _outputs({name.removeprefix("head."): x for name, x in states.items()})
        head = build_head(
            description["head"], shape.hidden_size, outputs, shape.max_position_embeddings, [0]
        )
        classifier = Classifier(Encoder(shape).eval(), head)
        classifier.load_state_dict(states)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder}: found no usable classifier ({reason}), wanted one that was kept"
        ) from error
    return Loaded(classifier, description["k"], description["head"], description)


def export_classifier(folder: Path, out: Path) -> None:
    """Write a kept classifier with the head `cls` as a Hugging Face folder.

    Raises
    ------
    UserError
        If it has another head, which `BertForSequenceClassification` cannot express, or `out`
        holds something.
    """
    found = load_classifier(folder)
    if found.head != "cls":
        raise UserError(
            f"{folder}: found the head {found.head}, wanted cls: Hugging Face's BERT has no other"
        )
    head, encoder = found.classifier.head, found.classifier.encoder
    if family_of(encoder.config).model_class != MODEL_CLASS:
        raise UserError(
            f"{folder}: found another encoder than BERT's, wanted one that "
            f"BertForSequenceClassification computes"
        )
    states = classifier_states(encoder, *map(_plain_linear, (head.pooler, head.out)))
    classes = found.description["classes"] or ["value"]
    config = bert_config(
        encoder.config,
        found.k,
        architectures=["BertForSequenceClassification"],
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
        problem_type=PROBLEMS[found.description["kind"]],
    )
    write_folder(out, states, config, found.k, _card(found.description))


PROBLEMS = {
    "binary": "single_label_classification",
    "multiclass": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}


def _plain_linear(part: StackedLinear) -> nn.Linear:
    """One of stacked linear maps as torch's own."""
    outputs, inputs = part.weight.shape[1:]
    plain = nn.Linear(inputs, outputs)
    plain.load_state_dict({"weight": part.weight[0], "bias": part.bias[0]})
    return plain


def _card(description: dict) -> str:
    its = description["pretrained"]
    return (
        f"# {description['task']}\n\n"
        f"A classifier of DNA in {description['k']}-mers, fine-tuned with cmgems on the task "
        f"{description['task']}, from {its['source'] if its['sha256'] else 'an untrained encoder'}."
        f"\n\nIts input is k-mer text: `ACGTACG` is `ACGTAC CGTACG` for k = 6.\n"
    )
