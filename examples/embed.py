"""The chat in an application that exists already, here a web site.

`python examples/embed.py [SITE CHAT]`; the two are endpoints.
"""

import sys

from twisted.internet import endpoints, reactor
from twisted.web import server, static

from chatproto import ChatFactory, Hub

site_endpoint, chat_endpoint = sys.argv[1:] or (
    "tcp:8080:interface=127.0.0.1",
    "tcp:9000:interface=127.0.0.1",
)

# What the application did before.
site = server.Site(static.Data(b"the application", "text/plain"))
endpoints.serverFromString(reactor, site_endpoint).listen(site)

# The chat.
hub = Hub(reactor)
endpoints.serverFromString(reactor, chat_endpoint).listen(ChatFactory(hub))

# The application says something into a room.
reactor.callLater(1, hub.say, "lobby", "deploy", "build 17 is live")

reactor.run()
