"""Runs a program on a reactor: `on_reactor.py REACTOR PROGRAM [ARGUMENT...]`.

REACTOR is a name that `twistd --reactor` knows, or `uvloop=FOLDER`: asyncio's, on the uvloop in FOLDER.
"""

from __future__ import annotations

import runpy
import sys

from twisted.application.reactors import installReactor

reactor, *command = sys.argv[1:]
name, _, packages = reactor.partition("=")
if name == "uvloop":
    sys.path.append(packages)  # behind all others: nothing else is to come from there
    import uvloop
    from twisted.internet import asyncioreactor

    asyncioreactor.install(uvloop.new_event_loop())
else:
    installReactor(name)
sys.argv = command
runpy.run_path(command[0], run_name="__main__")
