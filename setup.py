"""Builds every netstack/**/*.pyx into one extension each.

NETSTACK_BUILD=release (default) | debug | coverage | asan | fuzz chooses the flags; none builds nothing.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import setup_commands

UTILITY = "netstack._cyutility"  # the module that holds Cython's shared helper code
SANITIZE = {"asan": ["-fsanitize=address,undefined"], "fuzz": ["-fsanitize=fuzzer-no-link,address"]}
BUILDS = {
    "release": ["-O3", "-g1"],
    "debug": ["-O0", "-g3"],
    "coverage": ["-O1", "-g1"],
    "asan": ["-O1", "-g2", "-fno-omit-frame-pointer", *SANITIZE["asan"]],
    "fuzz": ["-O1", "-g1", "-fno-omit-frame-pointer", *SANITIZE["fuzz"]],  # by clang
    "none": [],
}
build = os.environ.get("NETSTACK_BUILD", "release")
if build not in BUILDS:
    raise SystemExit(f"NETSTACK_BUILD={build!r} is unknown: use one of {', '.join(BUILDS)}")
compiles = (
    build != "none" and setup_commands.compiles()
)  # none: an editable install of what is built in place
if compiles and (sentence := setup_commands.missing()):
    raise SystemExit(sentence)

# Headers lie at any alignment in a frame and are read through integer pointers.
cflags = [*BUILDS[build], "-fno-strict-aliasing", "-fwrapv", "-Wno-unreachable-code"]
macros = [("CYTHON_TRACE_NOGIL", "1")] if build == "coverage" else []
flags = {"extra_compile_args": cflags, "extra_link_args": SANITIZE.get(build, []), "define_macros": macros}


def extensions() -> list[Extension]:
    from Cython.Build import cythonize

    sources = {".".join(p.with_suffix("").parts): str(p) for p in sorted(Path("netstack").rglob("*.pyx"))}
    sources[UTILITY] = "netstack/_cyutility.c"
    return cythonize(
        [Extension(name, [source], **flags) for name, source in sources.items()],
        nthreads=os.cpu_count() or 1,
        compiler_directives={"language_level": 3, "linetrace": build == "coverage"}
        | dict.fromkeys(("boundscheck", "wraparound", "initializedcheck"), False)
        | dict.fromkeys(("cdivision", "embedsignature", "freethreading_compatible"), True),
        shared_utility_qualified_name=UTILITY,
    )


setup(
    ext_modules=extensions() if compiles else [],
    cmdclass={"install_data": setup_commands.InstallData},
    data_files=[("share/man/man1", [])],
)
