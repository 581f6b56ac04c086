"""The rate ladder: what the labels of one dataset cost, and are worth, in each way to store them."""
