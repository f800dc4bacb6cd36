"""The page to try a network: of the service, or with the network in the browser itself."""
