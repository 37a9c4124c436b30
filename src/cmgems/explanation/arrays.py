"""Explanations as arrays of N sequences, padded to the longest, L: in parts and, at the end, in one
file.

| array | shape | what |
| --- | --- | --- |
| `places` | [N, columns] | name, or contig and coordinates, as `cmgems predict` writes them |
| `starts`, `strands` | [N] | of the bases: the first one's offset on its contig, + or - |
| `codes` | [N, L] | base codes, A T C G = 0 1 2 3; 4 an unknown base, and padding |
| `lengths` | [N] | bases of each sequence |
| `scores` | [N] | of each sequence as it is |
| `effects` | [N, L, 4] | change by each substitution, in the order A T C G; nan at unknown bases |
| `gradients` | [N, L, 4] | first-order estimate of `effects` |
| `probabilities` | [N, L, 4] | distribution of each base, hidden |
| `dependencies` | [N, S, S] | of the base of the column on that of the row, in the middle S bases |
| `attention` | [N, A, H, S, S] | of each head in each layer, row to column |
"""

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cmgems.errors import UserError
from cmgems.evaluation.prediction.inputs import Item
from cmgems.explanation.explainer import Explanation
from cmgems.genome.alphabet import AMBIGUOUS
from cmgems.utils.files import atomic_write

Arrays = dict[str, np.ndarray]
_PER_BASE = ("codes", "effects", "gradients", "probabilities")
_OF_PAIRS = ("dependencies", "attention")


def stack(explanations: Sequence[Explanation], items: Sequence[Item]) -> Arrays:
    """The arrays of the explanations of some items."""
    arrays = {
        "places": np.array([item.place for item in items], str),
        "starts": np.array([item.start for item in items]),
        "strands": np.array([item.strand for item in items]),
        "lengths": np.array([len(each.codes) for each in explanations]),
        "scores": np.array([each.score for each in explanations]),
    }
    for name in (*_PER_BASE, *_OF_PAIRS):
        rows = [getattr(each, name) for each in explanations]
        if rows[0] is not None:
            shape = np.max([row.shape for row in rows], axis=0).tolist()
            arrays[name] = np.stack([_padded(row, shape) for row in rows])
    return arrays


def unstack(arrays: Arrays) -> Iterator[Explanation]:
    """The explanations, each without its padding."""
    for row, length in enumerate(arrays["lengths"].tolist()):
        cut = {name: arrays[name][row, :length] for name in _PER_BASE if name in arrays}
        maps = {name: arrays[name][row] for name in _OF_PAIRS if name in arrays}
        yield Explanation(score=float(arrays["scores"][row]), **cut, **maps)


def _padded(row: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    if row.dtype.kind in "US":
        return row
    fill = AMBIGUOUS if row.dtype.kind == "u" else np.nan
    widths = [(0, wanted - found) for wanted, found in zip(shape, row.shape, strict=True)]
    kind = np.uint8 if row.dtype.kind == "u" else np.float32
    return np.pad(row.astype(kind), widths, constant_values=fill)


def write_part(path: Path, arrays: Arrays) -> None:
    with atomic_write(path, "wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]


def read_part(path: Path) -> Arrays:
    """Read what `write_part` wrote.

    Raises
    ------
    UserError
        If it is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: is damaged ({error}); remove it to compute it again") from error


def join_parts(paths: Sequence[Path], out: Path) -> None:
    """Write all parts as one file, an array and a part at a time: all of them may fit no memory."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    kinds: dict[str, np.dtype] = {}
    for path in paths:
        for name, array in read_part(path).items():
            shapes.setdefault(name, []).append(array.shape)
            kinds[name] = np.promote_types(kinds.get(name, array.dtype), array.dtype)
    with atomic_write(out, "wb") as handle, zipfile.ZipFile(handle, "w") as archive:
        for name, found in shapes.items():
            inner = np.max([shape[1:] for shape in found], axis=0).astype(int).tolist()
            shape = (sum(rows for rows, *_ in found), *inner)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                header = {"descr": kinds[name].str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(entry, header)
                for path in paths:
                    for row in read_part(path)[name].astype(kinds[name]):
                        entry.write((_padded(row, inner) if inner else row).tobytes())
