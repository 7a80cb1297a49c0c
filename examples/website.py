"""The chat in a web site that exists already: its pages open it at /chat, and nobody else's.

`python examples/website.py [ENDPOINT ...]`, over HTTPS e.g. `ssl:8443:privateKey=key.pem:certKey=cert.pem`.
"""

import sys

from twisted.internet import endpoints, reactor
from twisted.web import server, static

from chatproto import ChatResource, Hub, PageResource

# What the site did before: it shows what is in a folder.
root = static.File("public")

# The chat.
chat = ChatResource(Hub(reactor))
root.putChild(b"chat", chat)

# And a page to talk from, at /talk/.
root.putChild(b"talk", PageResource(chat))

for endpoint in sys.argv[1:] or ["tcp:8080:interface=127.0.0.1"]:
    endpoints.serverFromString(reactor, endpoint).listen(server.Site(root))

# Whoever is there is told when the site goes away.
reactor.addSystemEventTrigger("before", "shutdown", chat.shut_down)
reactor.run()
