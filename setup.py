"""The compiled modules. Everything else about the package stands in pyproject.toml."""

import os
import shutil

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build import build

MODULES = [
    "chatproto.wire.chat",
    "chatproto.wire.encoding",
    "chatproto.wire.prepared",
    "chatproto.wire.websocket",
    "chatproto.net.sendqueue",
    "chatproto.rooms.remembered",
    "chatproto.history.batch",
    "chatproto.net.websocket.passage",
    "chatproto.net.gathering",
]

# CHATPROTO_SANITIZE=1 builds modules that stop at the first read or write outside a buffer, and at undefined
# behaviour. They run in a Python with the sanitizer loaded: LD_PRELOAD="$(gcc -print-file-name=libasan.so)".
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1", "-g"]
FLAGS = SANITIZE if os.environ.get("CHATPROTO_SANITIZE") == "1" else ["-O3"]


class BuildAfresh(build):
    """Builds from what is there now: a module that was removed since would otherwise still be installed."""

    def run(self) -> None:
        """Forget what was built before."""
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(
    cmdclass={"build": BuildAfresh},
    ext_modules=cythonize(
        [
            Extension(
                name,
                [name.replace(".", "/") + ".pyx"],
                extra_compile_args=FLAGS,
                extra_link_args=FLAGS,
            )
            for name in MODULES
        ],
        build_dir="build/cython",
        compiler_directives={"language_level": "3", "embedsignature": True},
    ),
)
