"""Settings of the whole suite."""

import os

from hypothesis import settings

# A machine that is busy is no failure; on a continuous-integration server every run draws the same examples.
settings.register_profile("suite", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("suite")
