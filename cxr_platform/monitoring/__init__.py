"""What can be watched: films unlike those of training, the names of all metrics, and what exports them."""
