"""Log scores per case, the learning rate and figures."""
