"""Protocols, tables and pictures."""
