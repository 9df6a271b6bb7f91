"""Metrics of label maps beyond Dice and surfaces, computed where they are asked for."""
