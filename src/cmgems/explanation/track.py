"""The importance of bases as a track: sorted, a line per base, the mean where windows overlap."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cmgems.explanation.arrays import Arrays, unstack
from cmgems.explanation.substitutions import importance
from cmgems.utils.escapes import table_field
from cmgems.utils.files import atomic_write


def write_track(parts: Iterable[Arrays], out: Path, name: str) -> None:
    """Write a bedGraph of the importance of all explained bases; unknown ones have no line.

    Parameters
    ----------
    parts : see `cmgems.explanation.arrays`
    name : of the track
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for arrays in parts:
        places = zip(arrays["places"][:, 0], arrays["starts"], arrays["strands"], strict=True)
        for (contig, start, strand), each in zip(places, unstack(arrays), strict=True):
            value_L = importance(each.effects)
            if strand == "-":
                value_L = value_L[::-1]
            known = np.flatnonzero(~np.isnan(value_L))
            found[str(contig)].append((start + known, value_L[known]))
    with atomic_write(out, "wb") as handle:
        handle.write(f'track type=bedGraph name="{table_field(name)}"\n'.encode())
        for contig, pieces in found.items():
            at, values = (np.concatenate(each) for each in zip(*pieces, strict=True))
            position, number = np.unique(at, return_inverse=True)
            mean = np.bincount(number, values) / np.bincount(number)
            handle.writelines(
                f"{table_field(contig)}\t{start}\t{start + 1}\t{value:.6g}\n".encode()
                for start, value in zip(position.tolist(), mean.tolist(), strict=True)
            )
