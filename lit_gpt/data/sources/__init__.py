"""Sources of text: files, the hub, the network, mixtures."""
