"""What `import cmgems` offers: lazily, under names that hide no module, errors in one line."""

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cmgems

HEAVY = ("torch", "numba", "lightning", "numpy", "omegaconf")
DNA = "GATTACAGGCATTAGCCGGATATTACCAGGTACCATTTGACAGGATCCA"


@pytest.fixture(scope="module")
def model(pretrained_run):
    return cmgems.load_pretrained(pretrained_run)


def test_import_is_instant():
    code = (
        "import sys, time; began = time.perf_counter(); import cmgems; "
        "print(time.perf_counter() - began, *sys.modules)"
    )
    seconds = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        first, *modules = done.stdout.split()
        assert set(modules).isdisjoint(HEAVY)
        seconds.append(float(first))
    assert min(seconds) < 0.1


def test_every_name_is_there_and_hides_no_module():
    assert set(cmgems.__all__) <= set(dir(cmgems))
    values = {name: getattr(cmgems, name) for name in cmgems.__all__}
    modules = {module.name for module in pkgutil.iter_modules(cmgems.__path__)}
    assert modules.isdisjoint(values)
    for name, value in values.items():
        if name != "__version__":
            assert value.__name__ == name
            assert value.__doc__
    assert not hasattr(cmgems, "predict")


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(cmgems.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    names = [alias.name for statement in block.body for alias in statement.names]
    assert sorted([*names, "__version__"]) == sorted(cmgems.__all__)


def test_every_function_has_an_example():
    from cmgems import api

    functions = [
        value for value in vars(api).values() if getattr(value, "__module__", "") == api.__name__
    ]
    assert len(functions) == 10
    for function in functions:
        for section in ("Parameters", "Returns", "Raises", "Examples"):
            # Without indentation: Python 3.13 strips it, earlier ones do not.
            assert re.search(rf"^{section}\n-+$", inspect.getdoc(function), re.MULTILINE)


def test_embed_as_the_command_does(model, pretrained_run, tmp_path):
    from cmgems.cli import main

    (tmp_path / "two.fa").write_text(f">a\n{DNA}\n>b\n{DNA[7:30]}\n")
    out = tmp_path / "two.npz"
    command = ["embed", str(pretrained_run), str(tmp_path / "two.fa"), "--out", str(out)]
    assert main([*command, "--pool", "max", "--layers", "1"]) == 0
    vectors = model.embed([DNA, DNA[7:30].lower()], pool="max", layers=1)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.load(out)["vectors"])
    assert model.embed([]).shape == (0, model.hidden_size)


def test_embedded_tokens_average_to_the_embedding(model):
    (states,) = model.embed_tokens([DNA])
    assert states.shape == (len(DNA) - 5, model.hidden_size)
    np.testing.assert_allclose(states.mean(0), model.embed([DNA])[0], atol=1e-5)


def test_text_and_base_codes_are_the_same(model, genome):
    codes = genome.codes[1_000_000:1_000_030]
    text = "".join("ATCGN"[code] for code in codes)
    np.testing.assert_array_equal(model.embed([codes]), model.embed([text]))
    np.testing.assert_array_equal(model.log_likelihood([codes]), model.log_likelihood([text]))


def test_log_likelihood(model):
    totals, means = (model.log_likelihood([DNA, "NNNNNNN"], per_base=p) for p in (False, True))
    assert totals.dtype == np.float64
    assert totals[0] == pytest.approx(len(DNA) * means[0])
    assert totals[1] == 0
    assert np.isnan(means[1])


def test_variants_of_a_list_and_of_a_file(model, genome, tmp_path):
    contig = genome.contigs[0]
    ref = "ATCGN"[genome.codes[contig.start + 999_999]]
    alts = [base for base in "ACGT" if base != ref]
    variants = [(contig.name, 1_000_000, ref, alt) for alt in [*alts, "<DEL>"]]
    scores = model.score_variants(variants, genome, window=64)
    assert np.isfinite(scores[:3]).all()
    assert np.isnan(scores[3])
    rows = [
        f"{contig.name}\t1000000\t{ref}\t{','.join(alts)}",
        f"{contig.name}\t1000000\t{ref}\t<DEL>",
    ]
    path = tmp_path / "calls.tsv"
    path.write_text("\n".join(["chrom\tpos\tref\talt", *rows]))
    np.testing.assert_array_equal(model.score_variants(path, genome, window=64), scores)


def test_mask_belongs_to_its_sequence():
    together = cmgems.mask([DNA, DNA * 3], "random_wide")
    (alone,) = cmgems.mask([DNA], "random_wide")
    assert len(together) == 2
    assert cmgems.mask([]) == []
    np.testing.assert_array_equal(alone.mask, together[0].mask)
    assert (
        cmgems.mask([DNA * 3], seed=1)[0].mask.tolist() != cmgems.mask([DNA * 3])[0].mask.tolist()
    )


@pytest.mark.parametrize("strategy", ["random", "random_wide", "global_pmi", "uniform"])
def test_mask_and_what_it_hides(strategy):
    """Slowly: a base is hidden if all its known k-mers are masked, and it has one."""
    text = f"{DNA * 3}N{DNA}"
    (masked,) = cmgems.mask([text], strategy, seed=2)
    assert masked.tokens[:2] == (DNA[:6], DNA[1:7])
    assert masked.mask.any()
    is_unknown = np.array([token == "[UNK]" for token in masked.tokens])
    assert is_unknown.sum() == 6
    assert not (masked.mask & is_unknown).any()
    for place, is_hidden in enumerate(masked.hidden):
        over = slice(max(0, place - 5), place + 1)
        known = masked.mask[over][~is_unknown[over]].tolist()
        assert is_hidden == (bool(known) and all(known)), place
    assert [base == "_" for base in str(masked)] == masked.hidden.tolist()
    assert masked.bases == text


def test_a_masked_base_is_a_hidden_base():
    from dataclasses import replace

    default = cmgems.Experiment()
    bases = replace(default, data=replace(default.data, tokenization="bases"))
    (masked,) = cmgems.mask([f"{DNA}N{DNA}"], "random_wide", bases)
    assert "".join(token for token in masked.tokens) == f"{DNA}N{DNA}"
    assert masked.mask.any()
    np.testing.assert_array_equal(masked.mask, masked.hidden)


def test_mask_keeps_the_budget_of_the_experiment(genome):
    from dataclasses import replace

    starts = np.linspace(0, 3_900_000, 200).astype(int)
    windows = [genome.codes[start : start + 510] for start in starts]
    experiment = cmgems.Experiment()
    for ratio in (0.15, 0.3):
        masking = replace(experiment.masking, mask_ratio=ratio)
        found = cmgems.mask(windows, "genemask", replace(experiment, masking=masking))
        share = np.mean(np.concatenate([one.mask for one in found]))
        assert share == pytest.approx(ratio, abs=0.01)


def test_table_is_that_of_pretraining(genome, human_rank):
    table = cmgems.pmi_table(cmgems.load_genome("sample"))
    np.testing.assert_array_equal(table.rank, human_rank.numpy())


# what somebody does, and a part of what they are told
ERRORS = [
    (lambda m, g: cmgems.load_genome("no.fa"), "no.fa: does not exist"),
    (lambda m, g: cmgems.pmi_table(g, k=13), "k is 13; PMI wants k from 2 to 12"),
    (lambda m, g: cmgems.load_experiment("no.yaml"), "no.yaml: no such file"),
    (lambda m, g: cmgems.load_evaluation("no.yaml"), "no.yaml: no such file"),
    (lambda m, g: cmgems.load_pretrained("no"), "no: no checkpoint there, wanted a run folder"),
    (lambda m, g: cmgems.load_pretrained("no", "tpu"), "device: found 'tpu', wanted one of auto"),
    (lambda m, g: cmgems.compare("no"), "no: no such folder, wanted a run or a sweep"),
    (lambda m, g: cmgems.compare([]), "paths: found none, wanted folders"),
    (lambda m, g: cmgems.mask([DNA], "ranom"), "strategy 'ranom' is unknown"),
    (lambda m, g: cmgems.mask(DNA), "sequences: found one sequence, wanted a list"),
    (lambda m, g: cmgems.mask(["ACG"]), "sequences[0]: has 3 bases, wanted at least 6"),
    (lambda m, g: cmgems.mask([DNA * 11]), "sequences[0]: has 539 bases, wanted at most 510"),
    (lambda m, g: m.embed(None), "sequences: found NoneType, wanted a list of sequences"),
    (lambda m, g: m.embed([DNA, "MKVLAAG"]), "sequences[1]: letter 4 of the sequence is 'L'"),
    (lambda m, g: m.embed([DNA, 7]), "sequences[1]: found int, wanted text or an array"),
    (lambda m, g: m.embed([np.zeros(9)]), "sequences[0]: found an array float64 [9]"),
    (lambda m, g: m.embed([np.full(9, 7, np.uint8)]), "found the base code 7, wanted 0 to 4"),
    (lambda m, g: m.embed([DNA], pool="sum"), "pool: found 'sum', wanted one of mean, cls"),
    (lambda m, g: m.embed([DNA], layers=9), "layers: found 9, wanted -"),
    (lambda m, g: m.log_likelihood(["A" * 999]), "sequences[0]: has 999 bases, wanted 6 to 515"),
    (lambda m, g: m.score_variants([("20", 1, "A")], g), "variants[0]: found ('20', 1, 'A')"),
    (lambda m, g: m.score_variants([("20", 0, "A", "C")], g), "wanted a position from 1"),
    (lambda m, g: m.score_variants([("7", 5, "A", "C")], g), "variants[0]: not in the genome: "),
    (lambda m, g: m.score_variants("no.vcf", g), "no.vcf"),
]


@pytest.mark.parametrize(("call", "message"), [pytest.param(*case, id=case[1]) for case in ERRORS])
def test_errors_are_one_line(call, message, model, genome, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cmgems.UserError) as caught:
        call(model, genome)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
