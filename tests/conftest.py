"""Settings of the whole suite."""

from hypothesis import settings

# Property tests draw the same examples in every run, so that no run fails by chance; `--hypothesis-profile fresh` draws
# others. A machine that is busy is no failure.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("fresh", deadline=None)
settings.load_profile("same")
