"""Custom strategies: found by name, checked, trained with; and what is refused."""

import pytest
import torch
from helpers.paths import EXPERIMENTS

from cmgems.cli import main
from cmgems.errors import UserError
from cmgems.masking.checks import check_strategy
from cmgems.masking.registry import strategy
from cmgems.masking.strategies import STRATEGIES
from cmgems.masking.types import RankTables
from cmgems.pretraining import pretrain
from cmgems.runs.experiment import load
from cmgems.tokenization import OverlappingKmers

MY_MASKS = """
import torch
from cmgems.masking.ops import dilate

def pairs(tokens):
    return dilate(tokens.centers_BK, (0, 1)) & tokens.maskable_BK

class Triples:
    def __call__(self, tokens):
        return dilate(tokens.centers_BK, (-1, 1)) & tokens.maskable_BK

class Configured:
    def __init__(self, width):
        self.width = width

number = 5

def every_seventh(tokens):  # by position in the tensor, special tokens too, no budget
    mask = torch.zeros_like(tokens.centers_BK)
    mask[:, ::7] = True
    return mask

def dice(tokens):
    return (torch.rand(tokens.ids_BK.shape) < 0.15) & tokens.maskable_BK

def widest(tokens):  # looks at the width of the batch
    return tokens.centers_BK.roll(tokens.ids_BK.shape[1] % 5, 1) & tokens.maskable_BK

def crowd(tokens):  # looks at the other sequences
    return tokens.centers_BK & ~tokens.centers_BK.all(0) & (tokens.centers_BK.sum() % 2 == 0)

def whole(tokens):
    return tokens.maskable_BK.clone()

def numbers(tokens):
    return tokens.centers_BK.int()

def broken(tokens):
    return tokens.no_such_field

def number_at_once(tokens):
    return 5

def gives_up(tokens):
    if not tokens.maskable_BK.all():
        raise ValueError("ambiguous")
    return tokens.centers_BK

def late(tokens):
    if not tokens.maskable_BK.all():
        raise RuntimeError("two\\nlines")
    return tokens.centers_BK
"""


@pytest.fixture
def my_masks(tmp_path, monkeypatch):
    """`my_masks.py` in the folder that the command is started in."""
    (tmp_path / "my_masks.py").write_text(MY_MASKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_masks", raising=False)


def failed(name, human_ids, human_rank):
    ranks = RankTables.before_training(human_rank, human_rank.roll(1))
    checks = check_strategy(name, human_ids, ranks, OverlappingKmers(6))
    return [c.name for c in checks if c.problem]


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_catalogue_keeps_to_the_rules(name, human_ids, human_rank):
    assert failed(name, human_ids, human_rank) == []


@pytest.mark.parametrize("name", ["pairs", "Triples"])
def test_a_good_one_passes(name, my_masks, human_ids, human_rank):
    assert failed(f"my_masks:{name}", human_ids, human_rank) == []


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (
            "every_seventh",
            {"leaves special tokens alone", "moves with the sequence", "keeps the budget"},
        ),
        ("dice", {"repeats itself", "does not see the batch", "does not see padding"}),
        ("widest", {"does not see padding"}),
        ("crowd", {"does not see the batch"}),
        ("whole", {"keeps the budget"}),
        ("numbers", {"returns a mask"}),
        ("broken", {"returns a mask"}),
    ],
)
def test_a_bad_one_fails_where_it_is_bad(name, wrong, my_masks, human_ids, human_rank):
    assert wrong <= set(failed(f"my_masks:{name}", human_ids, human_rank))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_masks:nothing", "strategy my_masks:nothing: module my_masks has no 'nothing'"),
        ("no_such_module:pairs", "strategy no_such_module:pairs: cannot import no_such_module"),
        ("my_masks:Configured", "strategy my_masks:Configured: the class cannot be made"),
        ("my_masks:number", "strategy my_masks:number: found int, wanted a function"),
        ("rndm", "strategy 'rndm' is unknown, wanted package.module:Name or one of uniform"),
    ],
)
def test_refuses_what_is_no_strategy(name, message, my_masks):
    with pytest.raises(UserError) as caught:
        strategy(name)
    assert str(caught.value).startswith(message)


def test_check_masking_on_the_command_line(my_masks, capsys):
    assert main(["check-masking", "my_masks:pairs"]) == 0
    assert capsys.readouterr().out.count("ok    ") == 10
    assert main(["check-masking", "my_masks:dice"]) == 2
    out, err = capsys.readouterr()
    assert "FAIL  repeats itself" in out
    assert err.startswith("cmgems check-masking: my_masks:dice: ")
    assert err.count("\n") == 1


def test_a_markov_model_ranks_no_ngrams(capsys):
    assert main(["check-masking", "reducible", "--tokenization", "bpe"]) == 2
    assert capsys.readouterr().err == (
        "cmgems check-masking: reducible: ranks k-mers by a Markov model, wanted another "
        "--tokenization than bpe, whose n-grams are ranked by PMI or loss alone\n"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("os:system", "strategy os:system: raised TypeError: "),
        ("sys:exit", "strategy sys:exit: raised SystemExit: "),
        ("my_masks:broken", "strategy my_masks:broken: raised AttributeError: "),
        ("my_masks:numbers", "strategy my_masks:numbers: returned torch.int32 [50, 123], wanted t"),
        ("my_masks:number_at_once", "strategy my_masks:number_at_once: returned int, wanted torch"),
        ("my_masks:gives_up", "strategy my_masks:gives_up: raised ValueError: ambiguous"),
        ("my_masks:dice", "my_masks:dice: repeats itself: another mask; draw with cmgems.masking"),
    ],
)
def test_a_bad_one_is_refused_before_the_run_begins(
    name, message, my_masks, tiny, tmp_path, capsys
):
    run = tmp_path / "run"
    overrides = [*tiny, "train.max_steps=3", f"curriculum.strategies=[{name}]", f"run.dir={run}"]
    assert main(["pretrain", str(EXPERIMENTS / "pretrain/random.yaml"), *overrides]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"cmgems pretrain: curriculum.strategies: {message}")
    assert not run.exists()


def test_what_a_strategy_raises_amid_a_run_is_one_line(my_masks, tiny, tmp_path, monkeypatch):
    """The checks cannot see everything."""
    monkeypatch.setattr("cmgems.training.masks.require_rules", lambda *_: None)
    overrides = [*tiny, "train.max_steps=3", "curriculum.strategies=[my_masks:late]"]
    overrides += [f"run.dir={tmp_path / 'run'}"]
    with pytest.raises(UserError, match=r"strategy my_masks:late: raised RuntimeError: two lines"):
        pretrain(load(EXPERIMENTS / "pretrain/random.yaml", overrides))


def test_a_module_that_raises_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "half_written.py").write_text("def pairs(tokens:\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.chdir(tmp_path)
    for name in ("half_written:pairs", "leaves:pairs", ":pairs"):
        with pytest.raises(UserError, match=f"strategy {name}: cannot import") as caught:
            strategy(name)
        assert "\n" not in str(caught.value)


def test_a_run_with_a_strategy_of_ones_own(my_masks, tiny, tmp_path):
    overrides = [
        *tiny,
        "train.max_steps=3",
        "curriculum.strategies=[my_masks:pairs,random]",
        f"run.dir={tmp_path / 'run'}",
    ]
    results = pretrain(load(EXPERIMENTS / "pretrain/cm_step.yaml", overrides))
    assert results["masked_fraction"]["my_masks:pairs"] == pytest.approx(0.15, abs=0.03)
    state = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    # a strategy of one's own may rank by loss
    assert int(state["masker.losses.sums_V2"].sum()) > 0
