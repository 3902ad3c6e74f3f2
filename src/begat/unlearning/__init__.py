"""Unlearning a group of images from a trained model, and scores from unlearned models."""
