"""Models: encoders, and the classifier made of an encoder, a linear head and class prototypes."""
