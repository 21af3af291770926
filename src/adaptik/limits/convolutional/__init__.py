"""One convolutional hidden layer of infinite width."""
