"""What bin/bench runs: the product against baselines, in the same run, every delivery verified."""
