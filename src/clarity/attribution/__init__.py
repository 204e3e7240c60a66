"""Attribution: the scores that are explained, and the methods that explain them."""
