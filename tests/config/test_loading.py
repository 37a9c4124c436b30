"""Experiment files: merging, one-line refusals with file, line and key; help and code agree."""

from itertools import pairwise
from typing import get_origin

import pytest
from helpers.paths import EXPERIMENTS

from cmgems.commands import describe_keys
from cmgems.config.genomes import GenomeSource
from cmgems.config.loading import dump
from cmgems.config.options import accepted_type, alternative_types, get_value, iter_keys
from cmgems.config.schema import Experiment
from cmgems.errors import UserError
from cmgems.runs.experiment import diff, load
from cmgems.runs.identity import experiment_identity

ALIASES_OF_ALIASES = "".join(
    f"{here}: &{here} [{', '.join([f'*{before}'] * 10)}]\n" for before, here in pairwise("abcdefgh")
)


@pytest.fixture
def write(tmp_path):
    def write(text, name="e.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def refusal(path, *overrides):
    with pytest.raises(UserError) as caught:
        load(path, overrides)
    return str(caught.value)


def test_defaults_files_and_overrides_in_that_order(write):
    write("seed: 1\noptim: {learning_rate: 1e-3, max_grad_norm: 2}\n", "base.yaml")
    path = write("extends: base.yaml\noptim: {max_grad_norm: 3}\n")
    experiment = load(path, ["train.max_steps=1e3", "validation.every_n_steps=500"])
    assert (experiment.seed, experiment.optim.learning_rate, experiment.optim.max_grad_norm) == (
        1,
        1e-3,
        3.0,
    )
    assert experiment.train.max_steps == 1000
    assert isinstance(experiment.train.max_steps, int)
    assert experiment.optim.beta2 == Experiment().optim.beta2
    assert (experiment.name, experiment.run.dir) == ("e", "runs/e")


def test_extends_through_several_files(write):
    write("seed: 1\ndata: {k: 3, min_window_length: 4}\n", "a.yaml")
    write("extends: a.yaml\nseed: 2\n", "b.yaml")
    experiment = load(write("extends: b.yaml\n"))
    assert (experiment.seed, experiment.data.k, experiment.data.min_window_length) == (2, 3, 4)


def test_a_section_takes_the_place_of_a_list_and_the_other_way_round(write):
    write("data: [1]\ncurriculum: {strategies: {a: 1}}\n", "a.yaml")
    path = write("extends: a.yaml\ndata: {k: 3}\ncurriculum: {strategies: [random]}\n")
    assert load(path).data.k == 3


def test_a_file_that_extends_itself_by_another_name_is_found_out(write, tmp_path):
    path = write(f"extends: ./../{tmp_path.name}/e.yaml\n")
    assert "extends itself through" in refusal(path)


def test_a_byte_order_mark_is_not_part_of_the_first_key(write):
    assert load(write("\ufeffseed: 3\n")).seed == 3


def test_refers_to_another_key(write):
    path = write("train: {global_batch_size: 20, micro_batch_size: '${train.global_batch_size}'}\n")
    assert load(path).train.micro_batch_size == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "optim: {learning_rat: 1}",
            "{p}:1: optim.learning_rat: no such key; did you mean optim.learning_rate?",
        ),
        ("a: 1\nmodel:\n  size: 1", "{p}:1: a: no such key, wanted one of name, seed, run, data"),
        (
            "seed: 1\nmodel:\n  num_layers: two",
            "{p}:3: model.num_layers: found 'two', wanted a whole number",
        ),
        ("train: {max_steps: 1.5}", "{p}:1: train.max_steps: found 1.5, wanted a whole number"),
        ("train: {max_steps: true}", "{p}:1: train.max_steps: found True, wanted a whole number"),
        ("name: no", "{p}:1: name: found False, wanted text, in quotes"),
        ("name: 0123", "{p}:1: name: found 83, wanted text, in quotes"),
        ("run: {resume: 1}", "{p}:1: run.resume: found 1, wanted one of true, false, auto"),
        (
            "run: {resume: atuo}",
            "{p}:1: run.resume: found 'atuo', wanted one of true, false, auto",
        ),
        (
            "optim: {learning_rate: -1}",
            "{p}:1: optim.learning_rate: found -1.0, wanted at least 0.0",
        ),
        (
            "optim: {learning_rate: .nan}",
            "{p}:1: optim.learning_rate: found nan, wanted at least 0.0",
        ),
        ("data: {k: 7}", "{p}:1: data.k: found 7, wanted one of 3, 4, 5, 6"),
        ("model: {preset: big}", "{p}:1: model.preset: found 'big', wanted one of small, logo"),
        ("model: 5", "{p}:1: model: found 5, wanted a section with the keys preset, num_layers"),
        ("data:\n  genome: [a]", "{p}:2: data.genome: found ['a'], wanted text, in quotes"),
        (
            "curriculum: {strategies: [rndm]}",
            "{p}:1: curriculum.strategies: strategy 'rndm' is unknown",
        ),
        ("curriculum: {schedule: linear}", "{p}:1: curriculum.strategies: found 1 names, schedule"),
        (
            "train: {global_batch_size: 25}",
            "{p}:1: train.global_batch_size: found 25, wanted a multiple of",
        ),
        (
            "optim: {warmup_steps: 1.5}",
            "{p}:1: optim.warmup_steps: found 1.5, wanted a whole number of steps, or a share of",
        ),
        (
            "optim: {warmup_steps: many}",
            "{p}:1: optim.warmup_steps: found 'many', wanted a number",
        ),
        (
            "optim: {warmup_steps: 500}\ntrain: {max_steps: 30}",
            "{p}:1: optim.warmup_steps: found 500, wanted fewer than train.max_steps = 30, or a "
            "share of them such as 0.1",
        ),
        ("data: {window_length: 600}", "{p}:1: data.window_length: 600 bases are 597 tokens"),
        (
            "model: {hidden_size: 100}",
            "{p}:1: model.hidden_size: found 100, wanted a multiple of 2 x 4 heads",
        ),
        (
            "model: {norm: pre, init: fast_start}",
            "{p}:1: model.norm: found pre, model.init fast_start wants post",
        ),
        (
            "model: {embedding_norm: false}",
            "{p}:1: model.embedding_norm: found false, wanted true with model.norm post",
        ),
        (
            "model: {biases: false, mlp_biases: down}",
            "{p}:1: model.mlp_biases: found down, wanted all with model.biases false",
        ),
        (
            "model: {preset: modern, local_attention: 5}",
            "{p}:1: model.local_attention: found 5, wanted an even number of tokens, or 0",
        ),
        (
            "model: {preset: dnabert2, init: fast_start}",
            "{p}:1: model.position_embedding: found alibi, model.init fast_start wants learned",
        ),
        (
            "model: {preset: dnabert2}\ndata: {window_length: 2000}",
            "{p}:2: data.window_length: 2000 bases are 1997 tokens with [CLS] and [SEP], wanted at "
            "most model.max_position_embeddings = 512",
        ),
        ("model: {conv_stem: 4}", "{p}:1: model.conv_stem: found 4, wanted an odd number"),
        (
            "model: {position_embedding: rotery}",
            "{p}:1: model.position_embedding: found 'rotery', wanted one of learned, rotary, alibi",
        ),
        (
            "data: {tokenization: bpe}\ncurriculum: {strategies: [markov_hard]}",
            "{p}:2: curriculum.strategies: found markov_hard, which ranks k-mers by a Markov model",
        ),
        (
            "data: {tokenization: bpe}\npmi: {skip_repeats: true}",
            "{p}:2: pmi.skip_repeats: found true, which is for k-mers",
        ),
        (
            "pmi: {table: t.tsv, skip_repeats: true}",
            "{p}:1: pmi.skip_repeats: found true, but the table of pmi.table t.tsv is counted",
        ),
        ("seed: 1\nseed: 2", "{p}:2: seed: set a second time in this file"),
        ("- 1", "{p}:1: wanted `key: value` lines"),
        ("a: [1", "{p}: not YAML: "),
        ("extends: nothing.yaml", "nothing.yaml: no such file, wanted an experiment"),
        ("extends: e.yaml", "e.yaml: extends itself through "),
        ("name: ${oc.env:HOME}", "{p}:1: only `${{other.key}}` may stand in a value"),
        ("seed: 1\nname: n${seed}${oc.env:HOME}", "{p}:2: only `${{other.key}}` may stand"),
        ("name: ${optim.${oc.env:HOME}}", "{p}:1: only `${{other.key}}` may stand"),
        ("name: ${seed${x}}", "{p}:1: only `${{other.key}}` may stand"),
        ("name: a${seed", "{p}:1: only `${{other.key}}` may stand"),
        ("name: run-${seed}-${oc.env:SECRET}", "{p}:1: only `${{other.key}}` may stand"),
        ("model: {'${oc.env:HOME}': 1}", "{p}:1: only `${{other.key}}` may stand"),
        ("name: ${name}", "{p}: Recursive interpolation detected"),
        ("name: " + "[" * 200 + "]" * 200, "{p}:1: found more than 32 levels, wanted fewer"),
        ("? [a, b]\n: 1", "{p}:1: found a key that is not text"),
        ("seed: 1\nnull: 2", "{p}:2: found a key that is not text"),
        ("name: !!python/object/apply:os.system [ls]", "{p}:1: found the tag "),
        ("name: !!binary aGVsbG8=", "{p}:1: found the tag "),
        ("seed: " + "1" * 38, "{p}: found a whole number of more than 64 bits"),
        (
            "optim: {learning_rate: " + "9" * 400 + "}",
            "{p}: found a whole number of more than 64 bits",
        ),
        ("name: &a [*a]", "{p}:1: a value holds itself through an alias"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + ALIASES_OF_ALIASES,
            "{p}:5: found more than 100,000 values",
        ),
        ("data: [1]", "{p}:1: data: found [1], wanted a section with the keys genome"),
        ("name: ${nothing}", "{p}: Interpolation key 'nothing' not found"),
    ],
)
def test_refuses_in_one_line_with_file_line_and_key(write, text, message):
    path = write(text)
    found = refusal(path)
    assert message.format(p=path) in found
    assert "\n" not in found or found.count("\n") + 1 == text.count("\n")


def test_reports_all_problems_at_once(write):
    path = write("seed: x\noptim:\n  learning_rate: fast\n  klip: 1\n")
    lines = refusal(path).splitlines()
    assert len(lines) == 3
    assert [line.split(": ")[0] for line in lines] == [f"{path}:{n}" for n in (1, 3, 4)]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.learning_rate", "`optim.learning_rate`: not an override, wanted key.path=value"),
        (
            "optim.learning_rte=1",
            "`optim.learning_rte=1`: optim.learning_rte: no such key; did you mean "
            "optim.learning_rate? (peak learning rate of AdamW)",
        ),
        (
            "optim.learning_rate=x",
            "`optim.learning_rate=x`: optim.learning_rate: found 'x', wanted a number "
            "(peak learning rate of AdamW)",
        ),
        (
            "optim.muon_learning_rate=-1",
            "found -1.0, wanted at least 0.0 (peak learning rate of Muon, ",
        ),
        ("optim=3", "`optim=3`: optim: found 3, wanted a section"),
        (
            "name=${oc.env:HOME}",
            "`name=${oc.env:HOME}`:1: only `${other.key}` may stand in a value",
        ),
        ("seed=1\nname: x", "found several lines, wanted key.path=value"),
        ("seed=[[", "`seed=[[`: not YAML"),
        (
            "optim.rate=1",
            "`optim.rate=1`: optim.rate: no such key; it is called optim.learning_rate now",
        ),
        (
            "curriculum.ramps.mask_fraction={schedule: linear, end: 0.3}",
            "no such key; it is called curriculum.ramps.mask_ratio now",
        ),
    ],
)
def test_refuses_overrides(write, override, message):
    assert message in refusal(write("seed: 1"), override)


def test_missing_file_and_folder(tmp_path):
    assert refusal(tmp_path / "no.yaml").endswith("no such file, wanted an experiment (YAML)")
    assert refusal(tmp_path).endswith("not a file, wanted an experiment (YAML)")


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("pretrain/*.yaml")), ids=lambda p: p.stem)
def test_shipped_experiments_load_and_round_trip(path, tmp_path):
    experiment = load(path)
    again = tmp_path / "config.yaml"
    again.write_text(dump(experiment))
    assert load(again) == experiment


def test_several_genomes_are_a_list_of_sections(write):
    path = write(
        "data:\n  genomes:\n"
        "    - {path: a.fa, weight: 2, validation_contigs: [8, chr9]}\n    - path: b.fa\n"
    )
    experiment = load(path)
    first, second = experiment.data.genomes
    assert first == GenomeSource("a.fa", 2.0, validation_contigs=("8", "chr9"))
    assert second == GenomeSource("b.fa", 1.0)
    assert experiment.data.genome == ""  # the copy in the run folder names no other
    assert load(write(dump(experiment), "config.yaml")) == experiment
    kept = experiment_identity(experiment)["data.genomes"]
    assert kept[0]["validation_contigs"] == ["8", "chr9"]  # plain containers, for a checkpoint


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.genomes=[{path: a}, 3]"],
            "data.genomes.2: found 3, wanted a section with the keys",
        ),
        (
            ["data.genomes=[{pth: a}]"],
            "data.genomes.1.pth: no such key; did you mean data.genomes.1",
        ),
        (["data.genomes=[{path: a, weight: 0}]"], "data.genomes.1.weight: found 0.0, wanted at"),
        (["data.genomes={path: a}"], "data.genomes: found one genome, wanted two or more"),
        (["data.genomes=[{path: a}, {weight: 2}]"], "data.genomes: found an entry without path"),
        (["data.genomes=[{path: a}, {path: a}]"], "data.genomes: a is listed twice"),
        (
            ["data.genomes=[{path: a}, {path: b}]", "data.genome=hg38"],
            "data.genomes: found beside data.genome hg38, wanted one of the two",
        ),
        (["data.genome=''"], "data.genome: found none, wanted a genome, or data.genomes"),
        (
            ["data.genomes=[{path: a}, {path: b}]", "data.regions=x.bed"],
            "data.regions: found beside data.genomes, wanted regions in the entry of its genome",
        ),
    ],
)
def test_genomes_that_do_not_go_together_are_refused(overrides, message):
    assert message in refusal(EXPERIMENTS / "pretrain/random.yaml", *overrides)


def test_baselines_differ_in_the_curriculum_alone():
    names = ("random", "random_wide", "genemask", "global_pmi", "cm_step", "cm_gems")
    one, *others = (load(EXPERIMENTS / f"pretrain/{name}.yaml") for name in names)
    for other in others:
        assert all(key == "name" or key.startswith("curriculum.") for key in diff(one, other))


def test_every_key_is_documented_and_in_the_help():
    text = describe_keys(Experiment)
    for name, part in iter_keys(Experiment):
        assert part.metadata["text"], name
        assert f"  {name} = " in text
        default = get_value(Experiment(), name)
        kind, may_be_null = accepted_type(part)
        kinds = tuple(get_origin(each) or each for each in alternative_types(kind))
        assert isinstance(default, kinds) or (may_be_null and default is None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["curriculum.strategies=[uniform]"], "single overlapping k-mers hide no base"),
        (["masking.center_rate=paper"], "the paper's rates are fixed"),
    ],
)
def test_a_budget_in_hidden_bases_is_refused_where_it_cannot_be_kept(overrides, message):
    path = EXPERIMENTS / "pretrain/random.yaml"
    with pytest.raises(UserError, match=message):
        load(path, ["masking.budget=hidden_bases", *overrides])
    single = ["data.tokenization=bases", "model.init=bert", "curriculum.strategies=[uniform]"]
    assert load(path, ["masking.budget=hidden_bases", *single]).masking.budget == "hidden_bases"
