"""What a built layer needs when it runs: torch, and a C++ compiler on demand.

Nothing here imports the compiler; generated modules import this package alone
(or carry its text, when built standalone).
"""
