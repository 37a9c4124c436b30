"""The contigs of a genome that is being read: names, lengths, counts and checksums."""

from pathlib import Path

from cmgems.errors import UserError
from cmgems.genome.checksum import CodesHash
from cmgems.genome.formats.base import Segment, SequenceChunk, place_of


class ContigList:
    """Fed with the pieces of the sources in order; ends as the list that a manifest holds."""

    def __init__(self):
        self.begun = False
        self._done: list[dict] = []
        self._seen: dict[str, tuple[Path, int | str]] = {}  # name -> where it stands
        self._open: dict | None = None

    def add(self, source: Path, piece: SequenceChunk) -> None:
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
            place = self._place(contig["name"])
            raise UserError(f"{place}: contig {contig['name']!r} has no sequence")
        contig["sha256"] = contig["sha256"].hexdigest()
        self._done.append(contig)

    def finish(self) -> list[dict]:
        """What a manifest says of each contig."""
        bases, other, iupac = (
            sum(c[key] for c in self._done) for key in ("length", "n_count", "iupac_count")
        )
        source = next(iter(self._seen.values()))[0]
        if other - iupac == bases:
            raise UserError(f"{source}: has no A, C, G or T: all of its {bases:,} bases are N")
        if 2 * iupac > bases - (other - iupac):
            raise UserError(
                f"{source}: {iupac:,} of {bases:,} letters are IUPAC codes other than A C G T U N;"
                " is this a protein? wanted: nucleotides"
            )
        return self._done

    def _place(self, name: str) -> str:
        source, place = self._seen[name]
        return f"{source}: {place_of(source, place)}"

    def _begin(self, source: Path, segment: Segment) -> None:
        self.close(source)
        self.begun = True
        if segment.name in self._seen:
            raise UserError(
                f"{source}: {place_of(source, segment.place)}: contig {segment.name!r} is there"
                f" twice, first at {self._place(segment.name)}; wanted: names that differ"
            )
        self._seen[segment.name] = source, segment.place
        self._open = {
            "name": segment.name,
            "length": 0,
            "n_count": 0,
            "iupac_count": 0,
            "sha256": CodesHash(),
        }
