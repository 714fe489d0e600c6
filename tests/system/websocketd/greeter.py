#!/usr/bin/env python3
"""Greets each name that it reads."""
import sys

for line in sys.stdin:
    print(f"Hello, {line.rstrip()}!", flush=True)
