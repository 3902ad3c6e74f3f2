"""Agreement of scores with retraining: LDS, ranking metrics, noise ceilings, intervals."""
