"""A data collator that masks as cmgems does: for the Trainer of transformers, or any torch loop."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from cmgems.config.schema import Experiment
from cmgems.curriculum.plateau import is_plateau
from cmgems.curriculum.schedule import plan_at
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.data_modules.windows import WindowBatch
from cmgems.errors import UserError
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.genome.joined import load_pretraining_genome
from cmgems.masking.masker import MaskingPlan
from cmgems.masking.packing import IGNORED
from cmgems.masking.strategies import READS_RANKS
from cmgems.runs.experiment import broken_rules
from cmgems.tasks.user_sequences import encode_user_sequences
from cmgems.tokenization import build_tokenization
from cmgems.tokenization.base import PAD
from cmgems.training.masks import build_masker, load_difficulty, unigram_entropy
from cmgems.utils.rng import derive_key, sequence_keys

SEQUENCE, NUMBER = "sequence", "number"  # of an example
_NEVER = -1  # a switch that has not happened


class CurriculumCollator:
    """Examples of DNA become `input_ids`, `attention_mask` and `labels`, masked by a curriculum.

    An example is text, base codes (uint8 [L]), or a mapping that has either as `sequence`. With a
    `number` in it, as examples of `cmgems.windows` have, it is window number n of the run: its mask
    is that of a run of ours with the same seed, and its step follows from the number, whatever is
    loaded ahead, by workers or on other processes. Examples without are masked by the seed, their
    own sequence and the epoch, at the step that the callback has reported last.

    Parameters
    ----------
    strategy : a masking strategy, or several from easy to hard (docs/masking.md)
        Default: those of the experiment.
    schedule : how to move from one strategy to the next, as `curriculum.schedule`
        Default: that of the experiment, or `constant` if a strategy is given.
    experiment : its `data`, `pmi`, `masking`, `curriculum` and `seed` are used
        Default: overlapping 6-mers, the ranks of the sample genome, 15 % of the tokens.
    pad_to_multiple_of : tokens; batches are padded to the longest sequence otherwise

    Raises
    ------
    UserError
        If a strategy or a schedule does not fit the experiment, or follows the loss of the model.

    Examples
    --------
    >>> collate = CurriculumCollator(strategy="random_wide")
    >>> batch = collate(["GATTACAGATTACAGATTACA", "ACGTACGTACGTACGT"])
    >>> {name: list(tensor.shape) for name, tensor in batch.items()}
    {'input_ids': [2, 18], 'attention_mask': [2, 18], 'labels': [2, 18]}
    """

    def __init__(
        self,
        strategy: str | Sequence[str] = (),
        schedule: str = "",
        experiment: Experiment | None = None,
        pad_to_multiple_of: int = 1,
    ) -> None:
        self.experiment = experiment = _checked(_chosen(experiment, strategy, schedule))
        self.pad_to_multiple_of = pad_to_multiple_of
        self.tokenization = build_tokenization(experiment.data)
        genome = load_pretraining_genome(experiment.data)
        table = load_difficulty(experiment, genome)
        self.masker = build_masker(experiment, GenomeDataModule(experiment, genome), table)
        self._entropy = unigram_entropy(table, genome, self.tokenization)
        # Where the training is: in memory that the workers of a DataLoader share with their parent.
        train, stages = experiment.train, len(experiment.curriculum.strategies)
        self._size = torch.tensor([train.max_steps, train.global_batch_size]).share_memory_()
        self._place = torch.tensor([0, 0]).share_memory_()  # step and epoch
        self._switches = torch.full((stages,), _NEVER).share_memory_()

    # What `cmgems.hf.CollatorCallback` calls in a Trainer, and another training loop can call.

    def begin(self, max_steps: int, sequences_per_step: int) -> None:
        """A training of so many optimizer steps, each of so many sequences, begins or resumes."""
        self._size.copy_(torch.tensor([max_steps, sequences_per_step]))

    def move_to(self, step: int, epoch: int = 0) -> None:
        """The step (0 = the first) and epoch of examples that have no number."""
        self._place.copy_(torch.tensor([step, epoch]))

    def follow(self, losses: Sequence[tuple[int, float]], steps_ahead: int = 0) -> None:
        """Switch the stages of a `plateau` curriculum.

        The switches are a function of all validations so far: nothing has to be saved.

        Parameters
        ----------
        losses : step and loss (nats) of each validation
        steps_ahead : steps of which batches may be masked already: a switch comes so much later
        """
        curriculum, copies = self.experiment.curriculum, self.tokenization.windows.overlap > 0
        if curriculum.schedule != "plateau":
            return
        switches: list[int] = []
        of_stage: list[float] = []
        for step, loss in losses:
            of_stage.append(loss)
            is_first = not switches
            if len(switches) < len(curriculum.strategies) - 1 and is_plateau(
                of_stage, curriculum.plateau, self._entropy, is_first, copies
            ):
                switches.append(step + steps_ahead)
                of_stage = []
        none_yet = [_NEVER] * (len(self._switches) - len(switches))
        self._switches.copy_(torch.tensor([*switches, *none_yet]))

    def plan(self, step: int) -> MaskingPlan:
        """How a step is masked."""
        experiment, max_steps = self.experiment, int(self._size[0])
        switches = [step for step in self._switches.tolist() if step != _NEVER]
        return plan_at(
            experiment.curriculum,
            experiment.masking,
            min(step, max_steps - 1),
            max_steps,
            switches,
            experiment.seed,
        )

    def __call__(self, examples: Sequence[Any]) -> dict[str, Tensor]:
        """int64 [B, T] each; labels are -100 wherever nothing is to be predicted."""
        sequences = [_sequence(example, row) for row, example in enumerate(examples)]
        codes = encode_user_sequences(sequences, self.tokenization.min_bases)
        longest = self.experiment.data.window_length
        for row, each in enumerate(codes):
            if len(each) > longest:
                raise UserError(
                    f"examples[{row}]: has {len(each):,} bases, wanted at most {longest:,}, "
                    f"data.window_length of the experiment"
                )
        numbers = [each.get(NUMBER) if isinstance(each, Mapping) else None for each in examples]
        by_plan: dict[MaskingPlan, list[int]] = {}
        for row, number in enumerate(numbers):
            by_plan.setdefault(self.plan(self._step(number)), []).append(row)
        masked: dict[int, tuple[Tensor, Tensor]] = {}
        for plan, rows in by_plan.items():
            ids_and_labels = self._masked([(codes[row], numbers[row]) for row in rows], plan)
            masked.update(zip(rows, ids_and_labels, strict=True))
        return self._padded([masked[row] for row in range(len(codes))])

    def _step(self, number: int | None) -> int:
        return int(self._place[0]) if number is None else int(number) // int(self._size[1])

    def _masked(
        self, sequences: list[tuple[np.ndarray, int | None]], plan: MaskingPlan
    ) -> list[tuple[Tensor, Tensor]]:
        """Ids and labels of each sequence, with [CLS] and [SEP]."""
        bases = tuple(len(codes) for codes, _ in sequences)
        codes_BL = np.full((len(bases), max(bases)), AMBIGUOUS, np.uint8)
        for row, (codes, _) in enumerate(sequences):
            codes_BL[row, : len(codes)] = codes
        keys_B2 = np.concatenate([self._keys(*sequence) for sequence in sequences])
        batch = WindowBatch(torch.from_numpy(codes_BL), bases, torch.from_numpy(keys_B2))
        masked = self.masker(batch, plan)
        labels_T = torch.full_like(masked.ids_T, IGNORED, dtype=torch.int64)
        labels_T[masked.at_M] = masked.targets_M
        tokens = self.tokenization.count_tokens(masked.ids_BK, bases)
        lengths = [content + 2 for content in tokens]
        both = masked.ids_T.long().split(lengths), labels_T.split(lengths)
        return list(zip(*both, strict=True))

    def _keys(self, codes: np.ndarray, number: int | None) -> np.ndarray:
        """int32 [1, 2]: what all draws of a sequence are made of."""
        seed, epoch = self.experiment.seed, int(self._place[1])
        if number is not None:  # as `cmgems.data_modules.windows.WindowStream` has it
            return sequence_keys(derive_key(seed, "masks"), np.array([number]))
        stream = derive_key(seed, f"masks of epoch {epoch}")
        return sequence_keys(stream, np.array([crc32(codes.tobytes())]))

    def _padded(self, rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        multiple = self.pad_to_multiple_of
        width = -(-max(len(ids) for ids, _ in rows) // multiple) * multiple
        empty = torch.empty((len(rows), width), dtype=torch.int64)
        batch = {
            "input_ids": empty.clone().fill_(PAD),
            "attention_mask": empty.clone().fill_(0),
            "labels": empty.clone().fill_(IGNORED),
        }
        for row, (ids, labels) in enumerate(rows):
            batch["input_ids"][row, : len(ids)] = ids
            batch["attention_mask"][row, : len(ids)] = 1
            batch["labels"][row, : len(ids)] = labels
        return batch


def _chosen(
    experiment: Experiment | None, strategy: str | Sequence[str], schedule: str
) -> Experiment:
    experiment = experiment or Experiment()
    curriculum = experiment.curriculum
    if strategy:
        names = (strategy,) if isinstance(strategy, str) else tuple(strategy)
        curriculum = replace(curriculum, strategies=names, schedule="constant")
    return replace(
        experiment, curriculum=replace(curriculum, schedule=schedule or curriculum.schedule)
    )


def _checked(experiment: Experiment) -> Experiment:
    problems = [
        message
        for key, message in broken_rules(experiment)
        if key.partition(".")[0] in ("data", "pmi", "masking", "curriculum")
    ]
    problems += [
        f"curriculum.strategies: {name} follows the loss of the model, which a collator does not "
        "see; wanted a strategy that does not"
        for name in experiment.curriculum.strategies
        if READS_RANKS.get(name) in ("loss_V", "reducible_V")
    ]
    if problems:
        raise UserError("\n".join(problems))
    return experiment


def _sequence(example: Any, row: int) -> Any:
    if not isinstance(example, Mapping):
        return example
    if SEQUENCE not in example:
        raise UserError(
            f"examples[{row}]: found {', '.join(map(str, example)) or 'no key'}, wanted {SEQUENCE} "
            "(a Trainer keeps it with TrainingArguments(remove_unused_columns=False))"
        )
    return example[SEQUENCE]
