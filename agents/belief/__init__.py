"""Belief agent: recognise the probe's class, filter, learn the transitions, plan."""
