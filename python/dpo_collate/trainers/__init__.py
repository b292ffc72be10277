"""Drop-ins for the collators of trainers: each a layout table plus the call form of the original.

A module says in its docstring what equals the original, what was mended, and the line that puts it in.
"""
