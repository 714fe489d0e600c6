#!/usr/bin/env python3
"""Counts to five."""
for number in range(1, 6):
    print(number, flush=True)
