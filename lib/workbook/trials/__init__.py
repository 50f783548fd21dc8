"""Trials: what the chapters measure, each too long for a cell. Rows of measurements are tables of pandas."""
