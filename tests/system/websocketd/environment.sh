#!/bin/bash
# Prints its environment, sorted.
env | sort
