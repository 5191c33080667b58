"""A benchmark harness that compares federated-learning strategies on diffusion models."""

__version__ = "0.1.0"
