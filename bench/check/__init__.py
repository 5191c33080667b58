"""Laws that strategies and partitions obey, as functions that look for a counterexample.

`candidates.py` finds what is tried by its name, `report.py` tries it and prints a table.
`law.py` says what a law is and judges one after the other; `strategy_laws.py` and `aggregation_laws.py` hold those of
strategies, `partition_laws.py` those of partitions. `toy.py` is the problem they run on, `watched.py` looks over a
strategy's shoulder, `memory.py` counts bytes, `differences.py` compares tensors and states, `random_state.py` looks
after the global generators.
"""
