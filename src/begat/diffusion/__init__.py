"""Noise schedules, U-Net packs, noise predictors, sampling, training, evidence lower bound."""
