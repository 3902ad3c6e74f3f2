"""Noise schedules, U-Net packs, noise predictors, sampling, training and the evidence lower bound."""
