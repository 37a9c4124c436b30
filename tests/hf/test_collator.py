"""The masks of a CurriculumCollator in the Trainer of transformers are those of our masker."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import cmgems.hf
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
        plan = plan_at(experiment.curriculum, experiment.masking, step, STEPS, [], experiment.seed)
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
            assert (ids[length:] == 0).all()
            assert (labels[length:] == -100).all()
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
            callbacks=[cmgems.hf.CollatorCallback(collate), *callbacks],
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


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_change_nothing(experiment, wanted, collator):
    collator.begin(STEPS, GLOBAL)
    stream = cmgems.windows(experiment, batch_size=MICRO)
    loader = DataLoader(stream, batch_size=MICRO, collate_fn=collator, num_workers=2)
    batches = [batch for batch, _ in zip(loader, range(STEPS * ACCUMULATED), strict=False)]
    assert_equal_rows(batches, wanted)


def test_examples_without_a_number_are_masked_by_sequence_epoch_and_reported_step(
    experiment, collator, genome
):
    windows = validation_windows(experiment, genome)
    assert len(windows) == experiment.validation.windows
    assert all(set(window) == {"sequence"} for window in windows)
    collator.begin(STEPS, GLOBAL)
    collator.move_to(step=0, epoch=0)
    first = collator(windows)
    alone = collator([windows[3]["sequence"].lower()])  # text, without what else is in the batch
    length = int(alone["attention_mask"].sum())
    assert torch.equal(first["labels"][3, :length], alone["labels"][0])
    assert torch.equal(first["input_ids"][3, :length], alone["input_ids"][0])
    collator.move_to(step=0, epoch=1)
    assert not torch.equal(collator(windows)["labels"], first["labels"])

    # the strategy is that of the step
    collator.move_to(step=1, epoch=0)
    assert collator.plan(1) == plan_at(
        experiment.curriculum, experiment.masking, 1, STEPS, [], experiment.seed
    )
    collator.begin(STEPS * 100, GLOBAL)
    steps = [collator.plan(step).strategies for step in (0, STEPS * 100 - 1)]
    assert steps == [("random",), ("global_pmi",)]


def test_a_strategy_alone_pads_to_a_multiple(human_codes, human_rank):
    collator = CurriculumCollator(strategy="random_wide", pad_to_multiple_of=64)
    batch = collator([human_codes[0].numpy()[:100], {"sequence": "ACGTACGTACGT", "number": 7}])
    assert {tensor.shape for tensor in batch.values()} == {(2, 128)}
    assert batch["attention_mask"].sum(1).tolist() == [97, 9]
    assert collator.plan(5).strategies == ("random_wide",)
    again = pickle.loads(pickle.dumps(collator))  # as a worker that is spawned gets it
    assert torch.equal(again(["ACGT" * 50])["labels"], collator(["ACGT" * 50])["labels"])


def test_a_plateau_switches_by_the_validations_so_far(experiment, tmp_path, train, genome):
    curriculum = replace(
        experiment.curriculum,
        schedule="plateau",
        strategies=("genemask", "global_pmi"),
        plateau=replace(experiment.curriculum.plateau, rule="paper", threshold=1.0),
    )
    collator = CurriculumCollator(experiment=replace(experiment, curriculum=curriculum))
    collator.begin(100, GLOBAL)

    def strategies(losses):
        collator.follow(losses, steps_ahead=2)
        return [collator.plan(step).strategies[0] for step in (0, 21, 22, 99)]

    assert strategies([(10, 8.0), (15, 6.0)]) == ["genemask"] * 4
    flat = [(10, 8.0), (15, 6.0), (20, 6.0), (25, 5.0)]
    assert strategies(flat) == ["genemask", "genemask", "global_pmi", "global_pmi"]
    assert strategies(flat[:2]) == ["genemask"] * 4  # another training with the same collator

    # in a Trainer: the untrained model's losses are as good as flat, so the second validation is
    # the switch, and the batch after the next has the new masks
    windows = validation_windows(experiment, genome)
    seen = train(
        cmgems.windows(experiment),
        collator,
        eval_dataset=windows,
        eval_strategy="steps",
        eval_steps=1,
        learning_rate=0.0,
        gradient_accumulation_steps=1,
    )
    switch = 2 + 1
    assert [collator.plan(step).strategies[0] for step in range(4)] == ["genemask"] * switch + [
        "global_pmi"
    ]
    collator.begin(STEPS, MICRO)
    examples = [example for example, _ in zip(cmgems.windows(experiment), range(16), strict=False)]
    for step, batch in enumerate(seen):
        expected = collator(examples[step * MICRO : (step + 1) * MICRO])
        assert torch.equal(batch["labels"], expected["labels"])
    with pytest.raises(UserError, match=r"found by validations, wanted TrainingArguments\(eval_st"):
        train(cmgems.windows(experiment), collator)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"strategy": "no_such"}, "no_such"),
        ({"strategy": "loss_adaptive"}, "loss_adaptive follows the loss of the model"),
        ({"strategy": ("random", "genemask"), "schedule": "steps"}, "curriculum.milestones"),
        ({"strategy": ("random", "genemask")}, "curriculum.strategies"),
    ],
)
def test_what_cannot_mask_is_refused(keys, message):
    with pytest.raises(UserError, match=message):
        CurriculumCollator(**keys)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (
            {"label": 1},
            r"examples\[0\]: found label, wanted sequence .*remove_unused_columns=False",
        ),
        ({"sequence": "ACGT"}, r"has 4 bases, wanted at least 6"),
        ("A" * 129, r"examples\[0\]: has 129 bases, wanted at most 128"),
        ("MKVLAA", r"letter 4 of the sequence is 'L'"),
    ],
)
def test_an_example_that_is_no_window_is_refused(example, message, collator):
    with pytest.raises(UserError, match=message):
        collator([example])
