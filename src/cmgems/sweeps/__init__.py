"""Many runs from one file: what to run (`plan`, `search`), where (`local`, `cluster`), and how far
it has come (`state`, `drive`)."""
