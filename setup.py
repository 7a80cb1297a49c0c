"""The compiled modules. Everything else about the package stands in pyproject.toml."""

import shutil

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build import build

MODULES = ["chatproto.wire.chat", "chatproto.wire.prepared", "chatproto.net.sendqueue"]


class BuildAfresh(build):
    """Builds from what is there now: a module that was removed since would otherwise still be installed."""

    def run(self) -> None:
        """Forget what was built before."""
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(
    cmdclass={"build": BuildAfresh},
    ext_modules=cythonize(
        [Extension(name, [name.replace(".", "/") + ".pyx"]) for name in MODULES],
        build_dir="build/cython",
        compiler_directives={"language_level": "3", "embedsignature": True},
    ),
)
