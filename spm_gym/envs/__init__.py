"""The conditioning task as Gymnasium environments, and what policies can attain in it."""
