"""`cmgems explain`: an input -> a folder of explanations, some sequences at a time.

| file | what is in it |
| --- | --- |
| `explain.json` | the model, the input and the options: who resumes asks for the same |
| `parts/NUMBER.npz` | explanations of some items in a row; joined and removed at the end |
| `explanations.npz` | all of them: see `cmgems.explanation.arrays` |
| `importance.bedGraph`, `logo.png`, `index.html` | a track, a picture, a page |
| `motifs.tsv` | which motifs are where the importance is high, if they are asked for |
| `skipped.tsv` | what has no explanation, and why; absent where there is nothing |
"""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from cmgems.errors import UserError
from cmgems.evaluation.prediction.inputs import Input, Item
from cmgems.explanation.arrays import join_parts, read_part, stack, write_part
from cmgems.explanation.explainer import Explainer
from cmgems.explanation.logo import logo_figure
from cmgems.explanation.motif_enrichment import collect, enrichments, write_table
from cmgems.explanation.page import POSITION, page
from cmgems.explanation.summary import middle, summarize
from cmgems.explanation.track import write_track
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.inference.motifs import Motif
from cmgems.utils.escapes import table_field
from cmgems.utils.files import atomic_write
from cmgems.utils.progress import progress_bar

RECORD, ARRAYS, PARTS = "explain.json", "explanations.npz", "parts"
TRACK, LOGO, PAGE, SKIPPED = "importance.bedGraph", "logo.png", "index.html", "skipped.tsv"
MOTIFS = "motifs.tsv"
_ITEMS = 16  # of a part


def explain_input(
    explainer: Explainer,
    source: Input,
    folder: Path,
    record: dict[str, Any],
    shown: int,
    motifs: Sequence[Motif] = (),
) -> str:
    """Explain all of an input; what is to be said of it at the end.

    Parameters
    ----------
    folder : new, or what an interrupted call with the same record left
    record : all that the explanations depend on
    shown : bases in the middle of logos
    motifs : to look for where the importance is high

    Raises
    ------
    UserError
        If nothing could be explained, or the folder holds something else.
    """
    open_folder(folder, record)
    skipped: list[Item] = []
    paths: list[Path] = []
    cut = 0
    with progress_bar(source.total, "explaining", " sequences") as advance:
        number = -1
        while chunk := list(islice(source.items, _ITEMS)):
            number += 1
            items = [_fitted(_checked(item, explainer), explainer) for item in chunk]
            cut += sum(len(a.codes) > len(b.codes) for a, b in zip(chunk, items, strict=True))
            skipped += [item for item in items if item.why]
            usable = [item for item in items if not item.why]
            path = folder / PARTS / f"{number:06d}.npz"
            if usable:
                if not path.is_file():
                    explanations = [explainer.explain(item.codes) for item in usable]
                    write_part(path, stack(explanations, usable))
                paths.append(path)
            advance(len(items))
    reasons = Counter(item.why.partition(":")[0] for item in skipped).most_common()
    listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
    if not paths:
        raise UserError(f"nothing could be explained ({listed or 'the input is empty'})")
    if skipped:
        _write_skipped(skipped, folder / SKIPPED, source.columns)
    count = _write_results(explainer, paths, folder, record, shown, motifs)
    text = f"wrote {folder}: {count:,} explanations; open {folder / PAGE} in a browser"
    text += f"; without one: {listed} ({SKIPPED})" if skipped else ""
    return text + (f"; {cut:,} read in their middle alone" if cut else "")


def open_folder(folder: Path, record: dict[str, Any]) -> None:
    """Make the folder, or find in it what an earlier call with the same record left.

    Raises
    ------
    UserError
        If it holds something else, or is finished.
    """
    path = folder / RECORD
    if path.is_file():
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path}: is damaged, wanted another --out") from error
        if different := [key for key in record if found.get(key) != record[key]]:
            raise UserError(
                f"--out: {folder} holds an explanation with another {different[0]}, wanted a new "
                f"folder"
            )
        if (folder / ARRAYS).is_file():
            raise UserError(f"--out: {folder} holds this explanation already, wanted a new folder")
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--out: {folder} is not an empty folder, wanted a new one")
    (folder / PARTS).mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as handle:
        json.dump(record, handle, indent=2)


def _checked(item: Item, explainer: Explainer) -> Item:
    least, found = explainer.tokenization.min_bases, len(item.codes)
    if item.why:
        return item
    if found < least:
        return item._replace(why=f"too short: {found} bases, wanted at least {least}")
    if (item.codes == AMBIGUOUS).all():
        return item._replace(why="no known base")
    return item


def _fitted(item: Item, explainer: Explainer) -> Item:
    """An item that is longer than the model reads, cut to its middle."""
    excess = len(item.codes) - explainer.max_bases
    if excess <= 0 or item.why:
        return item
    left = excess // 2
    ahead = left if item.strand == "+" else excess - left
    codes = item.codes[left : left + explainer.max_bases]
    return item._replace(codes=codes, start=item.start + ahead)


def _write_skipped(skipped: list[Item], out: Path, columns: tuple[str, ...]) -> None:
    with atomic_write(out, "wb") as handle:
        for row in ((*columns, "why"), *((*item.place, item.why) for item in skipped)):
            handle.write(("\t".join(map(table_field, row)) + "\n").encode())


def _write_results(
    explainer: Explainer,
    paths: list[Path],
    folder: Path,
    record: dict[str, Any],
    shown: int,
    motifs: Sequence[Motif],
) -> int:
    """All files of a finished folder; return the number of explanations. `ARRAYS` is the last: with
    it the folder is finished."""
    write_track(map(read_part, paths), folder / TRACK, record["model"])
    summary = summarize(explainer, paths)
    found = enrichments(collect(map(read_part, paths)), motifs) if motifs else []
    if motifs:
        write_table(found, folder / MOTIFS)
    if summary.mean_heights is not None:
        first, heights = middle(summary.mean_heights, shown)
        figure = logo_figure(heights, first, POSITION, f"mean, {explainer.unit}")
        with atomic_write(folder / LOGO, "wb") as handle:
            figure.savefig(handle, format="png", dpi=100)
    with atomic_write(folder / PAGE) as handle:
        handle.write(page(explainer, summary, record, shown, found))
    join_parts(paths, folder / ARRAYS)
    shutil.rmtree(folder / PARTS)
    return summary.num_sequences
