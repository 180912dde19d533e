"""What is emitted: layout, tiles and barriers, and no mathematics. Installed as ``seqc.templates``.

A package only so that editable installs find the data files.
"""
