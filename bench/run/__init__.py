"""Many cells: planned, run here or on a cluster, watched."""

BACKENDS = ("loky", "threading", "dask", "ray")  # of joblib, on which cells run
