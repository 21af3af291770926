"""Folders that a person can open: studies, sweeps, findings, phase diagrams."""
