"""What names mean: sizes, axes, hypers, values, defs and functions, and which need which."""
