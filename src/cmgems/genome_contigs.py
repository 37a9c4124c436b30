"""The contigs of a genome that is being read: names, lengths, counts and checksums."""

import hashlib
from pathlib import Path

from cmgems.errors import UserError
from cmgems.sequence_files import Piece, Segment


class ContigList:
    """Fed with the pieces of the sources in order; ends as the list that a manifest holds."""

    def __init__(self):
        self.begun = False
        self._done: list[dict] = []
        self._seen: dict[str, str] = {}  # name -> where it stands
        self._open: dict | None = None

    def add(self, source: Path, piece: Piece) -> None:
        for segment in piece.segments:
            if segment.name is not None:
                self._begin(source, segment)
            contig = self._open
            contig["length"] += segment.stop - segment.start
            contig["n_count"] += segment.n_count
            contig["iupac_count"] += segment.iupac_count
            contig["sha256"].update(piece.codes[segment.start : segment.stop])

    def close(self, source: Path) -> None:
        """The contig that is open ends here."""
        contig, self._open = self._open, None
        if contig is None:
            return
        if contig["length"] == 0:
            place = self._seen[contig["name"]]
            raise UserError(f"{place}: contig {contig['name']!r} has no sequence")
        contig["sha256"] = contig["sha256"].hexdigest()
        self._done.append(contig)

    def finish(self) -> list[dict]:
        bases = sum(c["length"] for c in self._done)
        other = sum(c["n_count"] for c in self._done)
        first = next(iter(self._seen.values())).rsplit(":", 1)[0]
        if other == bases:
            raise UserError(f"{first}: has no A, C, G or T: all of its {bases:,} bases are N")
        return self._done

    def _begin(self, source: Path, segment: Segment) -> None:
        self.close(source)
        self.begun = True
        place = f"{source}: {segment.place}"
        if segment.name in self._seen:
            raise UserError(
                f"{place}: contig {segment.name!r} is there twice, first at"
                f" {self._seen[segment.name]}; wanted: names that differ"
            )
        self._seen[segment.name] = place
        self._open = {
            "name": segment.name,
            "length": 0,
            "n_count": 0,
            "iupac_count": 0,
            "sha256": hashlib.sha256(),
        }
