"""The program that runs on the device: standard library plus one interpreter, Python 3.7 and newer.

It imports nothing of edgeq. `python3 -I runner/__main__.py VERB …` prints JSON lines; see events.py.
"""
