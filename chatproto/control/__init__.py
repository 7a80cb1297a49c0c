"""The control socket as an operator has it: `chatproto-ctl`, and the lines that it and a server exchange."""
