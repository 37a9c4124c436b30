"""An experiment: its file, its rules, its folder, its summary."""
