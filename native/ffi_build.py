"""Builds the cffi module `native._core` from the headers themselves.

Every header in `csrc/` marks the part that Python sees with `/* cffi: begin */` and `/* cffi: end */`. That
part is plain declarations (no macros, no inline code), so the header stays the only place where an interface
is written.
"""

import re
from pathlib import Path

from cffi import FFI

_HERE = Path(__file__).resolve().parent
_PART = re.compile(r"/\* cffi: begin \*/(.*?)/\* cffi: end \*/", re.DOTALL)
_NOUNS = re.findall(r"^  '(\w+)',$", _HERE.joinpath("meson.build").read_text().split("]")[0], re.MULTILINE)

ffibuilder = FFI()
for _noun in _NOUNS:
    for _part in _PART.findall(_HERE.joinpath("csrc", f"{_noun}.h").read_text()):
        ffibuilder.cdef(_part)
ffibuilder.set_source("native._core", "".join(f'#include "{noun}.h"\n' for noun in _NOUNS))
