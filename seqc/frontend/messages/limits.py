"""How large a spec may be: a hostile file is refused within seconds, and a person's never.

The largest published cell takes about 40 statements and 600 words.
"""

from __future__ import annotations

#: Characters of a file.
MAX_CHARACTERS = 1_000_000
#: Words, numbers and signs of a file.
MAX_TOKENS = 25_000
#: Statements of a file.
MAX_STATEMENTS = 5_000
#: Brackets within brackets.
MAX_NESTING = 200
#: Characters of one name.
MAX_NAME = 64
#: Terms that a layer may come to once every `def` is written out.
MAX_TERMS = 100_000
#: Sizes of one layer.
MAX_SIZES = 64
#: Steps that a lagged read may look back, and the width of a convolution.
MAX_LAG = 65_536
#: The largest size.
MAX_SIZE = 2**31 - 1
#: Parts of a bundle: each is written out.
MAX_BUNDLE = 64
#: Errors reported of one file; what follows is counted only.
MAX_PROBLEMS = 100
#: Names that "did you mean" looks through.
MAX_CANDIDATES = 500
