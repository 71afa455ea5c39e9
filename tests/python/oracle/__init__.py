"""Cases run under PyTorch once, whose results are recorded, and under Fluxion in the tests."""
