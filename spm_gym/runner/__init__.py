"""Autonomous operation: the state machine, its journal, notifications."""
