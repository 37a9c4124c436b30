"""The README of an exported model: what it is, how to use it, where its weights come from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cmgems import __version__
from cmgems.config.loading import dump
from cmgems.config.schema import Experiment, Run
from cmgems.cost.flops import parameters
from cmgems.hub.families import family_of, why_no_class
from cmgems.hub.pretrained import Pretrained
from cmgems.runs.folder import RunFolder
from cmgems.runs.hidden_bases import hidden_bases_verdict
from cmgems.runs.summary import MASK_NAMES

HEAD = """\
---
{library}pipeline_tag: fill-mask
tags: [dna, genomics, {model_type}, masked-lm, cmgems]
---

# {title}

An encoder for DNA, pretrained on masked {tokens} with cmgems {version}; {where}.

| layers | hidden size | heads | feed-forward | maximum tokens | vocabulary | parameters |
| --- | --- | --- | --- | --- | --- | --- |
| {sizes} | {parameters:,} |

## Use

{text}

```python
{code}
```

cmgems reads the folder as well, wherever it takes a run.
"""
IN_TRANSFORMERS = """\
from transformers import AutoModelForMaskedLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("PATH")
model = AutoModelForMaskedLM.from_pretrained("PATH").eval()
sequence = "{example}"
{masked}"""
# The folder is put on the path, since the module is a file in it.
BY_MODULE = """\
import sys

import torch
from tokenizers import Tokenizer

sys.path.insert(0, "PATH")
from modeling_cmgems import load  # plain torch, in this folder

tokenizer, model = Tokenizer.from_file("PATH/tokenizer.json"), load("PATH")
ids = torch.tensor([tokenizer.encode("{tokens}").ids])
logits = model(ids, torch.ones_like(ids, dtype=torch.bool))"""
KMER_TEXT = """\
The tokenizer takes {k}-mers between blanks in either case, one for every base that begins one; the
ids are those of DNABERT's vocabulary. A {k}-mer with anything but A, C, G, T is [UNK]. Plain DNA is
an error in it ("Missing [UNK] token"); where cmgems is installed,
`cmgems.hf.Tokenizer.from_pretrained("PATH")` takes it, to the same ids."""
KMERS_MASKED = """\
kmers = [sequence[i : i + {k}] for i in range(len(sequence) - {k} + 1)]
kmers[3 : 3 + {k}] = [tokenizer.mask_token] * {k}  # fewer could be read off their neighbours
logits = model(**tokenizer(" ".join(kmers), return_tensors="pt")).logits"""
BASE_TEXT = """\
The tokenizer takes plain DNA in either case, one token per base; what is not A, C, G or T is N."""
BASES_MASKED = """\
masked = sequence[:3] + tokenizer.mask_token + sequence[4:]
logits = model(**tokenizer(masked, return_tensors="pt")).logits"""
ADJACENT_TEXT = """\
The tokenizer takes plain DNA in either case. From the left of each stretch of known bases it cuts
{k}-mers; the rest of a stretch are single bases, what is not A, C, G or T is N. A masked {k}-mer is
one mask token in place of its {k} bases."""
ADJACENT_MASKED = """\
masked = sequence[:{k}] + tokenizer.mask_token + sequence[2 * {k} :]
logits = model(**tokenizer(masked, return_tensors="pt")).logits"""
BPE_TEXT = """\
The tokenizer takes plain DNA in either case and cuts it into byte pairs; each character that is not
A, C, G or T is [UNK]. One mask token stands for one byte pair."""
BPE_MASKED = """\
ids = tokenizer(sequence, return_tensors="pt")
ids["input_ids"][0, 2] = tokenizer.mask_token_id
logits = model(**ids).logits"""
USES = {
    "kmers": (KMER_TEXT, KMERS_MASKED),
    "bases": (BASE_TEXT, BASES_MASKED),
    "nonoverlapping": (ADJACENT_TEXT, ADJACENT_MASKED),
    "bpe": (BPE_TEXT, BPE_MASKED),
}
EXAMPLE = "TATAAAAGGCGCGGCGGGCCAGGTACG"


def render_card(pretrained: Pretrained, title: str) -> str:
    """The model card, with the results and the experiment of its run, if it comes from one."""
    shape, tokens = pretrained.model.encoder.config, pretrained.tokenization
    family, (text, masked) = family_of(shape), USES[tokens.name]
    names = ["num_layers", "hidden_size", "num_heads", "intermediate_size"]
    names += ["max_position_embeddings", "vocab_size"]
    reason = why_no_class(shape)
    where = f"{reason}. modeling_cmgems.py computes it in plain torch"
    shown = " ".join(EXAMPLE[i : i + tokens.k] for i in range(len(EXAMPLE) - tokens.k + 1))
    code = BY_MODULE.format(tokens=shown if tokens.name == "kmers" else EXAMPLE)
    if not reason:
        where = f"in transformers it is a\n{family.model_class}"
        code = IN_TRANSFORMERS.format(example=EXAMPLE, masked=masked.format(k=tokens.k))
    text = HEAD.format(
        title=title,
        library="" if reason else "library_name: transformers\n",
        model_type=family.model_type,
        where=where,
        code=code,
        tokens=tokens.description,
        text=text.format(k=tokens.k),
        version=__version__,
        parameters=parameters(shape),
        sizes=" | ".join(str(getattr(shape, name)) for name in names),
    )
    run = find_run(pretrained)
    return "\n".join(
        [text, *(_describe_run(pretrained, run) if run else _describe_file(pretrained)), ""]
    )


def find_run(pretrained: Pretrained) -> RunFolder | None:
    """The run folder of a model that was read from one."""
    if pretrained.step is None:
        return None
    return RunFolder(Path(pretrained.source).parent.parent)


def _describe_file(pretrained: Pretrained) -> list[str]:
    name = Path(pretrained.source).name
    return ["## Origin", "", f"Converted from `{name}`, sha256 `{pretrained.sha256}`."]


def _describe_run(pretrained: Pretrained, run: RunFolder) -> list[str]:
    lines = ["## Origin", ""]
    lines.append(
        f"Optimizer step {pretrained.step:,} of run `{run.path.resolve().name}`, checkpoint sha256 "
        f"`{pretrained.sha256}`."
    )
    if run.results.exists():
        results = run.read_results()
        lines += ["", *_provenance(results), "", *_describe_results(results, run.experiment())]
    else:
        lines.append("The run was not finished when this was written: it has no final results.")
    shown = dump(_without_paths(run.experiment())).strip()
    return [*lines, "", "## Experiment", "", "```yaml", shown, "```"]


def _without_paths(experiment: Experiment) -> Experiment:
    """The experiment as a card shows it: cards are published, so they name files, not folders."""
    data, pmi = experiment.data, experiment.pmi
    genomes = tuple(
        replace(
            source,
            path=Path(source.path).name,
            regions=_names(source.regions),
            exclude=_names(source.exclude),
        )
        for source in data.genomes
    )
    return replace(
        experiment,
        run=Run(),
        data=replace(
            data,
            genome=Path(data.genome).name,
            genomes=genomes,
            regions=_names(data.regions),
            exclude=_names(data.exclude),
            tokenizer=Path(data.tokenizer).name,
        ),
        pmi=replace(pmi, table=Path(pmi.table).name),
    )


def _names(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(Path(path).name for path in paths)


def _provenance(results: dict[str, Any]) -> list[str]:
    genome, pmi, versions = results["genome"], results["pmi"], results["versions"]
    return [
        f"- genome: {genome['name']}, {genome['bases']:,} bases, sha256 `{genome['sha256']}`",
        f"- difficulty: PMI `{pmi['definition']}`, k = {pmi['k']}, sha256 of the ranks "
        f"`{pmi['rank_sha256']}`",
        f"- training: {results['tokens']:,} tokens in {results['training_seconds']:,.0f} s",
        f"- versions: {', '.join(f'{name} {v}' for name, v in versions.items())}; git revision "
        f"{results['git_revision'] or 'unknown'}",
    ]


def _describe_results(results: dict[str, Any], experiment: Experiment) -> list[str]:
    """The validation metrics at the end of the run."""
    lines = [
        f"## Results after {experiment.train.max_steps:,} steps (best step: "
        f"{results['best_step']:,})",
        "",
        "On held-out regions of the same genome, under fixed masks and under the run's own.",
        "",
        "| masks | perplexity | accuracy |",
        "| --- | --- | --- |",
    ]
    for mask, metrics in results["final"].items():
        title = MASK_NAMES.get(mask, mask)
        lines.append(f"| {title} | {metrics['perplexity']:.2f} | {metrics['accuracy']:.2%} |")
    bits = results["final"].get("random_wide", {}).get("hidden_base_bits")
    reference = results["reference"]
    if bits is not None and reference:
        lines += [
            "",
            f"Bases that no visible token shows: {bits:.3f} bits per hidden base; base composition "
            f"alone {reference['composition_bits']:.3f}, the best Markov model (order "
            f"{reference['markov_order']}) {reference['markov_bits']:.3f}.",
        ]
    if hidden := results.get("hidden_bases"):
        lines += ["", " ".join(hidden_bases_verdict(hidden))]
    return lines
