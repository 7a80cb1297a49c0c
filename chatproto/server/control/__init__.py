"""The server's end of the control socket: who may ask, what is answered, and what is done."""
