"""Trials: what the chapters measure, each too long for a cell."""
