"""Builds every netstack/**/*.pyx into one extension each.

NETSTACK_BUILD=release (default) | debug | coverage | asan chooses the flags; none builds nothing.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

UTILITY = "netstack._cyutility"  # the module that holds Cython's shared helper code

BUILDS = {
    "release": ["-O3", "-g1"],
    "debug": ["-O0", "-g3"],
    "coverage": ["-O1", "-g1"],
    "asan": ["-O1", "-g2", "-fno-omit-frame-pointer", "-fsanitize=address,undefined"],
    "none": [],
}
build = os.environ.get("NETSTACK_BUILD", "release")
if build not in BUILDS:
    raise SystemExit(f"NETSTACK_BUILD={build!r} is unknown: use one of {', '.join(BUILDS)}")

# Headers lie at any alignment in a frame and are read through integer pointers.
cflags = [*BUILDS[build], "-fno-strict-aliasing", "-fwrapv", "-Wno-unreachable-code"]
ldflags = ["-fsanitize=address,undefined"] if build == "asan" else []
macros = [("CYTHON_TRACE_NOGIL", "1")] if build == "coverage" else []


def extension(name: str, source: str) -> Extension:
    return Extension(name, [source], extra_compile_args=cflags, extra_link_args=ldflags, define_macros=macros)


sources = sorted(Path("netstack").rglob("*.pyx"))
extensions = [extension(".".join(p.with_suffix("").parts), str(p)) for p in sources]
extensions.append(extension(UTILITY, "netstack/_cyutility.c"))
if build == "none":  # an editable install of what is built in place
    extensions = []

setup(
    ext_modules=cythonize(
        extensions,
        nthreads=os.cpu_count() or 1,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
            "freethreading_compatible": True,
            "linetrace": build == "coverage",
        },
        shared_utility_qualified_name=UTILITY,
    )
)
