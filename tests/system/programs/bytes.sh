#!/bin/sh
# Echoes bytes as they come, by two processes.
cat | cat
