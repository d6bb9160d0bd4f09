"""The conditioning task as Gymnasium environments, and what is attainable in it."""
