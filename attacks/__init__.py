"""Privacy attacks, one a file."""
