"""The scale of a network from known distances."""
