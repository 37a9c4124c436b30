"""The masks of a CurriculumCollator in the Trainer of transformers are those of our masker."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import cmgems
from cmgems.curriculum.schedule import plan_at
from cmgems.data_modules.iterable import validation_windows
from cmgems.data_modules.pretraining import GenomeDataModule
from cmgems.errors import UserError
from cmgems.hf import CurriculumCollator

STEPS, MICRO, ACCUMULATED = 4, 4, 2
GLOBAL = MICRO * ACCUMULATED


@pytest.fixture(scope="module")
def experiment(tiny):
    more = [f"train.max_steps={STEPS}", f"train.global_batch_size={GLOBAL}", "data.strands=both"]
    return cmgems.load_experiment("experiments/pretrain/cm_step.yaml", [*tiny, *more])


@pytest.fixture(scope="module")
def collator(experiment):
    return CurriculumCollator(experiment=experiment)


@pytest.fixture(scope="module")
def wanted(experiment, collator, genome):
    """(ids, labels) of each window of the run, by number, as our own step has them."""
    data = GenomeDataModule(experiment, genome)
    rows = {}
    for step in range(STEPS):
        plan = plan_at(
            experiment.curriculum, experiment.masking, step, STEPS, [], experiment.seed
        )
        batch = data.windows.batch(step * GLOBAL, GLOBAL)
        masked = collator.masker(batch, plan)
        labels_T = torch.full(masked.ids_T.shape, -100)
        labels_T[masked.at_M] = masked.targets_M
        lengths = [bases - 5 + 2 for bases in batch.bases]
        numbers = step * GLOBAL + np.argsort(
            -data.windows.windows(step * GLOBAL, GLOBAL).length, kind="stable"
        )
        for number, ids, labels in zip(
            numbers.tolist(), masked.ids_T.split(lengths), labels_T.split(lengths), strict=True
        ):
            rows[number] = ids.tolist(), labels.tolist()
    return rows


def assert_equal_rows(batches, wanted):
    """Batches in the order of use against the rows of the run."""
    number = 0
    for batch in batches:
        for ids, attended, labels in zip(
            batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
        ):
            length = int(attended.sum())
            assert (ids[:length].tolist(), labels[:length].tolist()) == wanted[number]
            assert (ids[length:] == 0).all() and (labels[length:] == -100).all()
            assert attended[:length].all()
            number += 1
    assert number == len(wanted)


@pytest.fixture
def train(experiment, collator, tmp_path):
    """Trains a BERT of transformers, and returns the batches that it was given."""
    transformers = pytest.importorskip("transformers", reason="wanted: pip install cmgems[peers]")
    pytest.importorskip("accelerate", reason="wanted: pip install cmgems[peers]")

    def trained(dataset, collate=collator, callbacks=(), eval_dataset=None, resume=None, **more):
        shape = transformers.BertConfig(
            vocab_size=4101,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            max_position_embeddings=512,
        )
        model, seen = transformers.BertForMaskedLM(shape), []
        forward = model.forward

        def noted(**inputs):
            if model.training:
                seen.append(inputs)
            return forward(**inputs)

        model.forward = noted
        settings = {
            "output_dir": str(tmp_path / "hf"),
            "max_steps": STEPS,
            "per_device_train_batch_size": MICRO,
            "gradient_accumulation_steps": ACCUMULATED,
            "remove_unused_columns": False,
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            "save_strategy": "no",
            "logging_strategy": "no",
        }
        arguments = transformers.TrainingArguments(**settings | more)
        trainer = transformers.Trainer(
            model,
            arguments,
            data_collator=collate,
            train_dataset=dataset,
            eval_dataset=eval_dataset,
            callbacks=[collate.callback(), *callbacks],
        )
        trainer.train(resume_from_checkpoint=resume)
        return seen

    return trained


def test_a_trainer_of_transformers_has_our_masks_bit_for_bit(experiment, wanted, train):
    strategies = experiment.curriculum.strategies
    assert len(strategies) == 2  # and the schedule moves between them
    assert_equal_rows(train(cmgems.windows(experiment)), wanted)


def test_a_training_that_is_resumed_has_the_same_masks(experiment, wanted, train, tmp_path):
    train(cmgems.windows(experiment), save_strategy="steps", save_steps=2)
    seen = train(cmgems.windows(experiment), resume=str(tmp_path / "hf/checkpoint-2"))
    later = {number - 2 * GLOBAL: row for number, row in wanted.items() if number >= 2 * GLOBAL}
    assert_equal_rows(seen, later)


def test_workers_change_nothing(experiment, wanted, collator):
    collator.begin(STEPS, GLOBAL)
    stream = cmgems.windows(experiment, batch_size=MICRO)
    loader = DataLoader(stream, batch_size=MICRO, collate_fn=collator, num_workers=2)
    batches = [batch for batch, _ in zip(loader, range(STEPS * ACCUMULATED), strict=False)]
    assert_equal_rows(batches, wanted)
