"""Who is where, what was said and who may do what. No transports."""
