"""Encoded ensembles: codes, training sets, ablation, counterfactual images and scores."""
