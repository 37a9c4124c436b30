"""How hard a token is: k-mer counts -> PMI -> ranks."""
