"""Labelling on top of a model's guesses: which face and point a person should look at next, and what one correction tells of the rest."""
