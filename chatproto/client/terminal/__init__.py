"""`chatproto-connect` on a whole terminal: what is on the screen, and the screen."""
