"""Whole files: layers, scan algebras, how states are solved, and warnings about them."""
