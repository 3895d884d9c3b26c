"""The benchmark behind scripts/bench: Ottla beside a real Kafka, same machine, same run, in turn.

`machine` says where it ran, `subject` is a broker that is measured, `wire` the few requests that show it at work,
`starts` and `load` measure, `workloads` is the list of loads, `perf_tools` drives them, `results` keeps the numbers,
`table` judges and prints them. Standard library only.
"""
