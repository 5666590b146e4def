"""A trained model brought to labels of one's own: corrected, fine-tuned or both, whichever held-out faces say is best."""
