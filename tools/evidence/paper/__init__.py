"""The counterparts of the paper's tables and figures (ModHiFi, arXiv 2511.19566), measured. See __main__.py."""
