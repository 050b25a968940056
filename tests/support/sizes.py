"""Sizes, in bytes."""

KIB = 2**10
MIB = 2**20
# What may be on its way between a thread and a loop before somebody has to wait.
BOUND = 64 * KIB
