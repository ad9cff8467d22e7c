"""Evaluation of depth networks: protocols, metrics, tables and pictures."""
