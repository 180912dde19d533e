"""Text to syntax: tokens, mistakes of spelling, the parser and its tree with spans."""
