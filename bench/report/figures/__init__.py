"""Figures of a grid's results."""

FORMATS = ("pdf", "png", "svg")  # that figures may be written in
NAMES = (
    "overview", "costs", "why", "partitions", "schemes", "clients", "long_run", "samples", "samples_grid",
    "quality_cost", "skew", "class_histograms", "client_spread", "drift", "film",
)  # fmt: skip
USUAL_FORMATS = FORMATS[:2]
