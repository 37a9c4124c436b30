"""One fine-tuned classifier: an encoder with a head, to save, to load and to export.

A folder holds `classifier.json` (sizes, tokens, head, classes, the pretrained model) and
`classifier.safetensors`. One with the head `cls` can be written as a Hugging Face folder, which
`BertForSequenceClassification.from_pretrained` opens with the same logits.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from cmgems.config.schema import Data
from cmgems.errors import UserError
from cmgems.evaluation.finetuning.heads import Cls, Head, build_head, head_name
from cmgems.evaluation.finetuning.train import Classifiers, LabelScale
from cmgems.evaluation.sources import ModelSource
from cmgems.hub.bert_weights import MODEL_CLASS, bert_config, classifier_states
from cmgems.hub.families import family_of
from cmgems.hub.folder import write_folder
from cmgems.inference.encode import arithmetic, compute_hidden_states
from cmgems.models.dropout import SeededDropout
from cmgems.models.encoder import Encoder, EncoderConfig
from cmgems.models.stacked import StackedLinear, unstack
from cmgems.models.weights import check_finite
from cmgems.tasks.task import Task
from cmgems.tasks.tokens import Tokens
from cmgems.tokenization import BytePairs, Tokenization, build_tokenization
from cmgems.tokenization.bpe_file import TOKENIZER
from cmgems.tokenization.hf import fast_tokenizer, input_text
from cmgems.utils.files import atomic_write

DESCRIPTION, WEIGHTS = "classifier.json", "classifier.safetensors"


class Classifier(nn.Module):
    """An encoder and a head (of one model)."""

    def __init__(self, encoder: Encoder, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    @torch.no_grad()
    def forward(self, tokens: Tokens, bf16: bool = False) -> Tensor:
        """Logits [B, C] of a batch, or [B, L, C] with the head `token`; nothing is dropped."""
        with arithmetic(self.encoder.tokens.weight.device, bf16):
            return self.differentiable_logits(tokens).float()

    def differentiable_logits(self, tokens: Tokens) -> Tensor:
        """The same with a gradient, in the type of the weights."""
        attention_mask = tokens.attention_mask().to(self.encoder.tokens.weight.device)[None]
        hidden_states = compute_hidden_states(self.encoder, tokens, self.head.places)[None]
        reduced = self.head.reduce(hidden_states, attention_mask)
        return self.head(reduced, attention_mask, SeededDropout(0.0, [0]))[0]


class LoadedClassifier(NamedTuple):
    """What `load_classifier` reads."""

    classifier: Classifier
    tokenization: Tokenization
    head: str
    description: dict


def unstack_classifiers(stacked: Classifiers, encoder: Encoder) -> list[Classifier]:
    """The stacked models, each on its own; `encoder` is the one that frozen ones share."""
    classifiers = []
    name = head_name(stacked.head)
    for model in range(len(next(stacked.head.parameters()))):
        state_dict = {
            key: x[model : model + 1].clone() for key, x in stacked.head.state_dict().items()
        }
        sizes, outputs = encoder.config, _count_outputs(state_dict)
        head = build_head(name, sizes.hidden_size, outputs, sizes.max_position_embeddings, [0])
        head.load_state_dict(state_dict)
        own = encoder if stacked.encoder is None else unstack(stacked.encoder, model)
        classifiers.append(Classifier(own, head))
    return classifiers


def _count_outputs(state_dict: dict[str, Tensor]) -> int:
    """Logits of a head, from its last bias."""
    last = "out.bias" if "out.bias" in state_dict else "bias"
    return state_dict[last].shape[-1]


def save_classifier(
    folder: Path,
    classifier: Classifier,
    source: ModelSource,
    task: Task,
    strands: str,
    scale: LabelScale,
) -> None:
    """Write a classifier; one of that name is replaced.

    Parameters
    ----------
    strands : forward or both, of whose logits it takes the mean
    scale : of a regression's labels; its logits times the deviation, plus the mean, are values
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: x.detach().cpu().contiguous() for name, x in classifier.state_dict().items()}
    with atomic_write(folder / WEIGHTS, "wb") as handle:
        handle.write(safetensors.torch.save(weights))
    description = {
        "shape": asdict(classifier.encoder.config),
        **source.tokens,
        "head": head_name(classifier.head),
        "strands": strands,
        "kind": task.kind,
        "classes": list(task.classes),
        "scale": [scale.mean, scale.deviation],
        "task": task.name,
        "length": task.length,  # bases of an example; 0: not known
        "pretrained": {"source": source.name, "sha256": source.sha256, "step": source.step},
    }
    if isinstance(source.tokenization, BytePairs):
        with atomic_write(folder / TOKENIZER) as handle:
            handle.write(fast_tokenizer(source.tokenization).to_str())
    with atomic_write(folder / DESCRIPTION) as handle:
        json.dump(description, handle, indent=2)


def load_classifier(folder: Path) -> LoadedClassifier:
    """Read what `save_classifier` wrote.

    Raises
    ------
    UserError
        If there is nothing of the kind, or it is damaged.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        state_dict = safetensors.torch.load_file(folder / WEIGHTS)
        config = EncoderConfig(**description["shape"])
        outputs = _count_outputs({name.removeprefix("head."): x for name, x in state_dict.items()})
        head = build_head(
            description["head"], config.hidden_size, outputs, config.max_position_embeddings, [0]
        )
        classifier = Classifier(Encoder(config).eval(), head)
        check_finite(folder / WEIGHTS, state_dict)
        classifier.load_state_dict(state_dict)
        tokens = Data(
            tokenization=description["tokenization"],
            k=description["k"],
            tokenizer=str(folder / TOKENIZER) if description["tokenization"] == "bpe" else "",
        )
        tokenization = build_tokenization(tokens)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder}: found no usable classifier ({reason}), wanted a folder of save_classifiers"
        ) from error
    return LoadedClassifier(classifier, tokenization, description["head"], description)


def export_classifier(folder: Path, out: Path) -> None:
    """Write a saved classifier with the head `cls` as a Hugging Face folder.

    Raises
    ------
    UserError
        If it has another head, which `BertForSequenceClassification` cannot express, or `out`
        holds something.
    """
    saved = load_classifier(folder)
    head, encoder = saved.classifier.head, saved.classifier.encoder
    if not isinstance(head, Cls):
        raise UserError(
            f"{folder}: found the head {saved.head}, wanted cls: Hugging Face's BERT has no other"
        )
    if family_of(encoder.config).model_class != MODEL_CLASS:
        raise UserError(
            f"{folder}: found another encoder than BERT's, wanted one that "
            f"BertForSequenceClassification computes"
        )
    state_dict = classifier_states(encoder, _plain_linear(head.pooler), _plain_linear(head.out))
    classes = saved.description["classes"] or ["value"]
    config = bert_config(
        encoder.config,
        saved.tokenization,
        architectures=["BertForSequenceClassification"],
        id2label=dict(enumerate(classes)),
        label2id={name: number for number, name in enumerate(classes)},
        problem_type=PROBLEMS[saved.description["kind"]],
    )
    card = _card(saved.description, saved.tokenization)
    write_folder(out, state_dict, config, saved.tokenization, card)


PROBLEMS = {
    "binary": "single_label_classification",
    "multiclass": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}


def _plain_linear(part: StackedLinear) -> nn.Linear:
    """The first of stacked linear maps, as torch's own."""
    outputs, inputs = part.weight.shape[1:]
    plain = nn.Linear(inputs, outputs)
    plain.load_state_dict({"weight": part.weight[0], "bias": part.bias[0]})
    return plain


def _card(description: dict, tokenization: Tokenization) -> str:
    pretrained = description["pretrained"]
    origin = pretrained["source"] if pretrained["sha256"] else "an untrained encoder"
    return (
        f"# {description['task']}\n\n"
        f"A classifier of DNA in {tokenization.description}, fine-tuned with cmgems on the task "
        f"{description['task']}, from {origin}."
        f"\n\nIts input is {input_text(tokenization)}.\n"
    )
