"""The published tasks, as tables. docs/tasks.md shows them; `task_table` writes it."""

from collections.abc import Iterable, Iterator

from cmgems.downstream.tasks import Files, Recipe, Task

GENEMASK = "GeneMask (Roy et al., ECAI 2023), github.com/roysoumya/GeneMask, Data-B"
CM_GEMS = "CM-GEMS (Roy et al., ECAI 2024); positives: SilencerDB, High_throughput_Homo_sapiens.fa"
GUE = "GUE (Zhou et al., DNABERT-2, ICLR 2024), github.com/MAGICS-LAB/DNABERT_2"
BENCHMARKS = (
    "Genomic Benchmarks (Gresova et al., BMC Genomic Data 2023), "
    "github.com/ML-Bioinfo-CEITEC/genomic_benchmarks"
)
TRANSFORMER = (
    "Nucleotide Transformer (Dalla-Torre et al., Nature Methods 2024), "
    "huggingface.co/datasets/InstaDeepAI/nucleotide_transformer_downstream_tasks"
)
MARKS = (
    "H3",
    "H3K14ac",
    "H3K36me3",
    "H3K4me1",
    "H3K4me2",
    "H3K4me3",
    "H3K79me3",
    "H3K9ac",
    "H4",
    "H4ac",
)
SAMPLE = "the sample genome of this package, and each window dinucleotide-shuffled"


def few_shot_tasks() -> Iterator[Task]:
    """Of the papers; a name like train_50 of splice-40 counts a tenth of the examples a class."""
    # name, name in the authors' folder, classes, length, {number in the name: examples a class},
    # has a test file, share of the largest file held out otherwise
    rows = (
        ("prom-core", "Prom-core", 2, 70, (10, 50, 100, 500, 1000), 1, 0.0),
        ("prom-300", "Prom-300", 2, 300, (10, 50, 100, 500, 1000), 1, 0.5),
        ("cohn-enh", "Cohn-enh", 2, 500, (10, 50, 100, 500), 1, 0.28),
        ("splice-40", "Splice-40", 3, 40, (10, 50, 100, 500), 10, 0.0),
    )
    for name, authors, classes, length, numbers, factor, test_share in rows:
        splice = name == "splice-40"
        test = (
            (f"fewshot/{name}/test.tsv",),
            (f"{authors}/full-dataset/test.tsv" if splice else f"{authors}/test.tsv",),
        )
        yield Task(
            name,
            "few-shot",
            "multiclass" if classes > 2 else "binary",
            _numbers(classes),
            "accuracy",
            length,
            GENEMASK,
            {} if test_share else {"test": Files("table", test)},
            {
                factor * n: Files(
                    "table",
                    (
                        (f"fewshot/{name}/train_{n}.tsv",),
                        (f"{authors}/{n}/train{f'_splice40_{n}' if splice else ''}.tsv",),
                    ),
                )
                for n in numbers
            },
            test_share=test_share,
        )
    layouts = (
        ("silencer/High_throughput_Homo_sapiens.fa",),
        ("High_throughput_Homo_sapiens.fa",),
    )
    yield Task(
        "silencer",
        "few-shot",
        "binary",
        ("replaced", "silencer"),
        "accuracy",
        300,
        CM_GEMS,
        {"train": Files("replaced", layouts)},
        test_share=0.1,
        paired=True,
    )


def gue_tasks() -> Iterator[Task]:
    """All 28; the metric is Matthews correlation, macro F1 for covid."""
    # folder, classes, length, epochs, most steps
    rows = [(f"EMP/{mark}", 2, 500, 3, 0) for mark in MARKS]
    rows += [(f"mouse/{number}", 2, 101, 5, 1000) for number in range(5)]
    for part, length in (("300", 300), ("core", 70)):
        for kind, epochs in (("all", 4), ("notata", 4), ("tata", 10)):
            rows.append((f"prom/prom_{part}_{kind}", 2, length, epochs, 0))
    rows += [("splice/reconstructed", 3, 400, 5, 0)]
    rows += [(f"tf/{number}", 2, 101, 3, 0) for number in range(5)]
    rows += [("virus/covid", 9, 1000, 8, 0)]
    for folder, classes, length, epochs, max_steps in rows:
        yield Task(
            f"gue/{folder}",
            "GUE",
            "multiclass" if classes > 2 else "binary",
            _numbers(classes),
            "f1" if folder == "virus/covid" else "mcc",
            length,
            GUE,
            {
                split: Files(
                    "table", tuple((f"{top}{folder}/{split}.csv",) for top in ("gue/", "GUE/", ""))
                )
                for split in ("train", "dev", "test")
            },
            recipe=Recipe(epochs=epochs, max_steps=max_steps),
        )


def genomic_benchmarks() -> Iterator[Task]:
    """As `genomic_benchmarks.loc2seq.download_dataset` lays them out: a text file a sequence."""
    signed = ("negative", "positive")
    rows = (
        ("demo_coding_vs_intergenomic_seqs", ("coding_seqs", "intergenomic_seqs"), 200),
        ("demo_human_or_worm", ("human", "worm"), 200),
        ("drosophila_enhancers_stark", signed, 0),
        ("dummy_mouse_enhancers_ensembl", signed, 4707),
        ("human_enhancers_cohn", signed, 500),
        ("human_enhancers_ensembl", signed, 573),
        ("human_ensembl_regulatory", ("enhancer", "ocr", "promoter"), 802),
        ("human_nontata_promoters", signed, 251),
        ("human_ocr_ensembl", signed, 593),
    )
    for name, classes, length in rows:
        yield Task(
            f"gb/{name}",
            "Genomic Benchmarks",
            "multiclass" if len(classes) > 2 else "binary",
            classes,
            "accuracy",
            length,
            BENCHMARKS,
            {
                split: Files(
                    "folders",
                    tuple(
                        (f"{top}{name}/{split}",)
                        for top in ("genomic_benchmarks/", ".genomic_benchmarks/", "")
                    ),
                )
                for split in ("train", "test")
            },
            dev_share=0.1,
            licence="Apache-2.0",
        )


def transformer_tasks() -> Iterator[Task]:
    """The 18 of the Nucleotide Transformer, the first edition."""
    rows = [(mark, 2, 500) for mark in MARKS]
    rows += [("enhancers", 2, 200), ("enhancers_types", 3, 200)]
    rows += [(f"promoter_{kind}", 2, 300) for kind in ("all", "no_tata", "tata")]
    rows += [("splice_sites_acceptors", 2, 600), ("splice_sites_all", 3, 400)]
    rows += [("splice_sites_donors", 2, 600)]
    for name, classes, length in rows:
        yield Task(
            f"nt/{name}",
            "Nucleotide Transformer",
            "multiclass" if classes > 2 else "binary",
            _numbers(classes),
            "mcc",
            length,
            TRANSFORMER,
            {
                split: Files(
                    "fasta_header",
                    tuple(
                        (f"{top}{name}/{split}.fna",)
                        for top in ("nt/", "nucleotide_transformer_downstream_tasks/", "")
                    ),
                )
                for split in ("train", "test")
            },
            dev_share=0.1,
        )


def embedded_tasks() -> Iterator[Task]:
    """What needs no file."""
    yield Task(
        "shuffled",
        "embedded",
        "binary",
        ("shuffled", "human"),
        "accuracy",
        200,
        SAMPLE,
        {split: Files("shuffled") for split in ("train", "dev", "test")},
        licence="as this package",
    )


def _numbers(classes: int) -> tuple[str, ...]:
    return tuple(map(str, range(classes)))


def _by_name(found: Iterable[Task]) -> dict[str, Task]:
    return {task.name: task for task in found}


TASKS = _by_name(
    [
        *few_shot_tasks(),
        *gue_tasks(),
        *genomic_benchmarks(),
        *transformer_tasks(),
        *embedded_tasks(),
    ]
)


def task_table() -> str:
    """The registry in Markdown, for docs/tasks.md."""
    lines = [
        "| task | what | classes | bases | official metric | published shots a class |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for task in TASKS.values():
        shots = ", ".join(map(str, task.shots)) or "-"
        cells = (f"`{task.name}`", task.group, len(task.classes), task.length or "varies")
        lines.append(f"| {' | '.join(map(str, cells))} | {task.metric} | {shots} |")
    return "\n".join(lines) + "\n"
