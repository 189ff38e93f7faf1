"""Experiments and the loop that trains them.

The worker calls ``load_experiment(source, overrides)`` (`experiment.py`) and then ``run(experiment, session)``
(`runner.py`), both on its main thread.
"""
