"""What is known of places in a genome: variants (VCF, tables) and intervals (BED, GTF)."""
