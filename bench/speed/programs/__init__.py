"""What is timed: each file is a program that a process of its own runs, some under another project's interpreter.

Each prints a line of JSON at its end: ``{"seconds": [...]}``, of every unit of work that it did, in their order.
"""
