"""The experiment files, in the wheel too: `cmgems experiments list` names them."""
