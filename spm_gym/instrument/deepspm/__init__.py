"""The text protocol of the original DeepSPM server: a client for labs, a server for its agent."""
