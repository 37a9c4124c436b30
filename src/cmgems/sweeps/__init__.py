"""Many runs from one file: what to run (`plan`, `search`), where (`local`, `cluster`), when
(`scheduler`), and how far each run has come (`state`)."""
