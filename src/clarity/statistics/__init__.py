"""Statistics: how losses are compared; the unit of every test is the training run."""
