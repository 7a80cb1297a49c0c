"""Takes plain connections and passes their bytes on over TLS: for a client that knows no TLS.

`python tls_gate.py PORT` for a server at 127.0.0.1:PORT. What that server shows is not verified.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

_PIECE_BYTES = 2**16


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_PIECE_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # gone; the other side is told so in the same way
    finally:
        writer.close()


async def _main(port: int) -> None:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            tls_reader, tls_writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_pump(reader, tls_writer), _pump(tls_reader, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    host, own_port = server.sockets[0].getsockname()[:2]
    print(f"listening on {host} port {own_port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
