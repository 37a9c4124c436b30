"""Lightning callbacks; imported as `cmgems.callbacks`."""
