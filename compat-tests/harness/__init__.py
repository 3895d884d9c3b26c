"""What the compatibility suites share: brokers as processes, the control line, toolchains, records, reports.

Standard library only: the driver runs before any client library is installed.
"""
