"""What can be watched: images unlike those of training, the names of all metrics, and what exports them."""
