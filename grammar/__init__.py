"""The language: ``seq.lark``, its grammar, and ``prelude.seq``, its library written in itself.

Installed as ``seqc.grammar``; a package only so that editable installs find the data files.
"""
