"""The compiled modules. Everything else about the package stands in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES = ["chatproto.wire.chat", "chatproto.wire.prepared", "chatproto.net.sendqueue"]

setup(
    ext_modules=cythonize(
        [Extension(name, [name.replace(".", "/") + ".pyx"]) for name in MODULES],
        build_dir="build/cython",
        compiler_directives={"language_level": "3", "embedsignature": True},
    )
)
