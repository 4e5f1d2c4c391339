"""Where text comes from: files, the hub, the network, several of them together."""
