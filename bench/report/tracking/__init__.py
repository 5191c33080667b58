"""MLflow as a mirror of the store: what a grid's files say, as an experiment with a run per cell and per mean.

Only the processes that run the grid sync, one at a time; workers never speak to MLflow. A sync reads the files and
sends what MLflow lacks, so it may be repeated, interrupted and taken up by another process, and MLflow's store may
be deleted and rebuilt without training. A grid is an experiment; in it stands one parent run for the grid and,
nested below it, one run for the present attempt at each cell and, after the last sync, one for each mean over seeds.
Which of the three a run is, its tag `kind` says: "grid", "cell" or "summary".

Metrics by round have the round as their step. MLflow's charts can have any metric by round as their x axis, so
`samples` and `megabytes` are among them. The comparable losses stand a second time where the step itself is the
images seen or the kilobytes travelled, as `vs_samples/...` and `vs_kilobytes/...`: MLflow draws those as they are.
"""
