"""Slow, obvious reading of intervals: what a file says, base by base."""


def bed_intervals(text):
    """(contig, start, end, strand) of the lines of a BED file with tabs."""
    found = []
    for line in text.splitlines():
        if not line or line.startswith(("#", "track", "browser")):
            continue
        fields = line.split("\t")
        strands = [field for field in fields[3:6] if field in ("+", "-")]
        found.append((fields[0], int(fields[1]), int(fields[2]), (strands or ["."])[-1]))
    return found


def gtf_intervals(text, feature):
    """(contig, start, end, strand) of the lines of a feature, as BED counts."""
    rows = [line.split("\t") for line in text.splitlines() if line and line[0] != "#"]
    return [(row[0], int(row[3]) - 1, int(row[4]), row[6]) for row in rows if row[2] == feature]


def covered(contigs, intervals):
    """The bases under intervals, one by one: {(contig, position)}, inside the contigs' lengths."""
    return {
        (contig, position)
        for contig, start, end, *_ in intervals
        for position in range(start, min(end, contigs[contig]))
    }


def members(spans):
    """The positions in spans, one by one."""
    return {
        position
        for start, end in zip(spans.start.tolist(), spans.end.tolist(), strict=True)
        for position in range(start, end)
    }
