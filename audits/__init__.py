"""The game, its statistics and verdicts, and the command line."""
